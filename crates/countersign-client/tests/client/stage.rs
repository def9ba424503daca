//! A gate for the ledger of this stage.

use std::sync::Arc;
use std::time::Duration;

use countersign_client::{
    Client, ClientConfig, ClientError, Draft, Gate, GateIdentity, PreparedBatch, Retry,
};
use countersign_core::kinds::Kind;

use crate::ledger::{Ledger, key};

/// A configuration for this ledger, with its clock.
pub fn config(ledger: &Ledger) -> ClientConfig {
    let mut config = ClientConfig::new(ledger.endpoint(), ledger.log_vkey());
    config.clocks = vec![ledger.clock_vkey()];
    config.call_timeout = Duration::from_secs(10);
    config
}

pub fn identity() -> GateIdentity {
    GateIdentity {
        tenant: "acme".to_owned(),
        gate: "prod-1".to_owned(),
        seal_key: key(3),
        chain: Vec::new(),
        instance: 0,
        software: "test 1".to_owned(),
    }
}

/// Retries fast and not for long.
pub fn retry() -> Retry {
    Retry {
        deadline: Duration::from_secs(5),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
    }
}

pub async fn gate(ledger: &Ledger) -> Gate {
    let client = Client::connect(config(ledger)).await.unwrap();
    Gate::open(client, identity(), retry()).await.unwrap()
}

/// A verdict's members, with the number in its action and action_id.
pub fn verdict(number: u32) -> String {
    format!(
        r#"{{"action":"ec2:Act{number}","action_id":"01a1f6af-1068-7351-869a-{number:012x}",
            "actor":{{"kind":"agent","id":"a","class":null,"session":null,"model":null,
                "on_behalf_of":null}},
            "mode":"enforce","outcome":"refuse","parameters":{{"n":{number}}}}}"#
    )
}

pub fn drafts(gate: &Gate, numbers: std::ops::Range<u32>) -> Vec<Draft> {
    numbers.map(|number| gate.draft(Kind::Verdict, &verdict(number)).unwrap()).collect()
}

pub fn batch(gate: &Gate, numbers: std::ops::Range<u32>) -> Arc<PreparedBatch> {
    gate.prepare(&drafts(gate, numbers)).unwrap()
}

/// The code that an outcome failed with.
pub fn code<T>(result: Result<T, ClientError>) -> &'static str {
    match result {
        Ok(_) => "no error",
        Err(error) => error.code().as_str(),
    }
}
