//! The authorisation table over real sockets: every RPC, every role, records of one's own tenant
//! and of another's, each decided as `authz::TABLE` says.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop where it stands"
)]

use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::hash::Context;
use countersign_core::kinds::Kind;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::{get_evidence_request, get_receipt_request};
use countersign_server::authz::{COLUMNS, Reach, Rpc, TABLE, reach};
use countersign_tests::gate::{Fields, opening, request};
use countersign_tests::{Client, Holder, Lane, Random, Server, Stage, submit};
use tokio_stream::iter;
use tonic::Status;

const TENANTS: [&str; 2] = ["acme", "globex"];

/// A tenant whose gate has a record in the log.
struct Tenant {
    name: &'static str,
    gate: Holder,
    lane: Lane,
    /// Its one record.
    index: u64,
    fields: Fields,
}

impl Tenant {
    async fn new(stage: &Stage, server: &Server, name: &'static str, random: &mut Random) -> Self {
        let gate = stage.gate(name, "prod-1");
        let mut client = stage.connect(server, &gate).await;
        let mut lane = Lane::open(&mut client, &gate, 0).await.unwrap();
        let fields = lane.verdict(random);
        let record = lane.take(Kind::Verdict, &fields, random);
        let batch = lane.seal(vec![record]);
        let held = submit(stage, &mut client, &batch).await.unwrap().remove(0).unwrap();
        Self { name, gate, lane, index: held.receipt.index.0, fields }
    }
}

/// Calls an RPC about the records of `target`. A batch must be its next one.
async fn call(
    client: &mut Client,
    rpc: Rpc,
    target: &mut Tenant,
    random: &mut Random,
) -> Result<(), Status> {
    match rpc {
        Rpc::OpenStream => client.open_stream(opening(&target.gate, 0)).await.map(drop),
        Rpc::Submit => {
            let batch = target.lane.clone().batch(1, random);
            let answer = client.submit(request(&batch, 1)).await?.into_inner();
            assert_eq!(answer.answers.len(), 1);
            assert!(!answer.checkpoint.is_empty(), "{answer:?}");
            target.lane.next_seq += 1;
            target.lane.prev = batch.sealed.roots[0];
            Ok(())
        }
        Rpc::SubmitStream => {
            let batch = target.lane.clone().batch(1, random);
            let call = client.submit_stream(iter([request(&batch, 1)])).await?;
            let answer = call.into_inner().message().await?.unwrap();
            if let Some(refused) = answer.refused {
                return Err(Refusal::from(refused).into());
            }
            target.lane.next_seq += 1;
            target.lane.prev = batch.sealed.roots[0];
            Ok(())
        }
        Rpc::GetHead => client.get_head(v1::GetHeadRequest::default()).await.map(drop),
        Rpc::WatchHeads => {
            let call = client.watch_heads(v1::WatchHeadsRequest { after_size: 0 }).await?;
            call.into_inner().message().await.map(|head| assert!(head.is_some()))
        }
        Rpc::GetConsistency => {
            let request = v1::GetConsistencyRequest { old_size: 1, new_size: 2 };
            client.get_consistency(request).await.map(drop)
        }
        Rpc::GetReceipt => {
            let which = Some(get_receipt_request::Which::Index(target.index));
            client
                .get_receipt(v1::GetReceiptRequest {
                    which,
                    min_size: 0,
                    at_size: 0,
                    witnessed: false,
                })
                .await
                .map(drop)
        }
        Rpc::GetEvidence => {
            let action = target.fields["action_id"].as_str().unwrap().to_owned();
            let which = Some(get_evidence_request::Which::ActionId(action));
            let tenant = target.name.to_owned();
            let request =
                v1::GetEvidenceRequest { which, tenant, ..v1::GetEvidenceRequest::default() };
            client.get_evidence(request).await.map(drop)
        }
        Rpc::PutBlob => {
            let content = [0_u8; 8];
            let digest = Context::Policy.hash(&[&content]).to_vec().into();
            let request = v1::PutBlobRequest { digest, content: content.to_vec().into() };
            client.put_blob(request).await.map(drop)
        }
        Rpc::Query => {
            let tenant = target.name.to_owned();
            let request = v1::QueryRequest { tenant, ..v1::QueryRequest::default() };
            let answer = client.query(request).await?.into_inner();
            assert!(!answer.rows.is_empty(), "{answer:?}");
            Ok(())
        }
        Rpc::WatchRecords => {
            let tenant = target.name.to_owned();
            let request = v1::WatchRecordsRequest { tenant, ..v1::WatchRecordsRequest::default() };
            let call = client.watch_records(request).await?;
            call.into_inner().message().await.map(|record| assert!(record.is_some()))
        }
        Rpc::GetEntries => {
            let request = v1::GetEntriesRequest { from: 0, count: 2 };
            let answer = client.get_entries(request).await?.into_inner();
            assert_eq!(answer.entries.len(), 132);
            Ok(())
        }
        Rpc::GetPeaks => client.get_peaks(v1::GetPeaksRequest { size: 3 }).await.map(drop),
        Rpc::GetPolicy => {
            let digest = vec![7; 32].into();
            client.get_policy(v1::GetPolicyRequest { digest }).await.map(drop)
        }
        Rpc::Erase => {
            let tenant = target.name.to_owned();
            let request = v1::EraseRequest { tenant, ..v1::EraseRequest::default() };
            client.erase(request).await.map(drop)
        }
    }
}

/// What the table says of this call: done, or refused by this code.
fn expected(rpc: Rpc, role: Role, own: bool) -> Result<(), Code> {
    match reach(rpc, role) {
        Reach::Never => Err(Code::PermissionDenied),
        Reach::Log => Ok(()),
        // No tenant is named there, and nobody has a policy of this digest.
        Reach::Own if rpc == Rpc::GetPolicy => Err(Code::NotFound),
        // What is asked is empty, which is looked at after who asks.
        Reach::Own if own && rpc == Rpc::Erase => Err(Code::RequestMalformed),
        Reach::Own if own => Ok(()),
        // How a call names another tenant's records differs, and so does its refusal.
        Reach::Own => match rpc {
            Rpc::OpenStream | Rpc::Submit | Rpc::SubmitStream => Err(Code::StreamForeign),
            // That a record is there is not told.
            Rpc::GetReceipt => Err(Code::NotFound),
            // A blob is nobody's: whoever may put one may put any.
            Rpc::PutBlob => Ok(()),
            _ => Err(Code::OtherTenant),
        },
    }
}

#[tokio::test]
async fn every_rpc_role_and_tenant_is_decided_as_the_table_says() {
    let stage = Stage::new();
    let server = Server::start(&stage).await;
    let mut random = Random::new(11);
    let mut tenants = Vec::new();
    for name in TENANTS {
        tenants.push(Tenant::new(&stage, &server, name, &mut random).await);
    }
    let mut cases = 0;
    for (place, caller) in TENANTS.into_iter().enumerate() {
        for role in COLUMNS {
            // The gate by the name that its stream is opened for, everyone else by another.
            let name = if role == Role::Gate { "prod-1" } else { "somebody" };
            let mut client = stage.connect(&server, &stage.holder(caller, role, name)).await;
            for (rpc, _) in TABLE {
                for (target, tenant) in tenants.iter_mut().enumerate() {
                    let own = target == place;
                    let answer = call(&mut client, rpc, tenant, &mut random).await;
                    let code = answer.map_err(|status| {
                        let refusal = Refusal::from_status(&status);
                        refusal.unwrap_or_else(|| panic!("{rpc:?} {role} {own}: {status:?}")).code
                    });
                    assert_eq!(code, expected(rpc, role, own), "{rpc:?} {role} own: {own}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 2 * COLUMNS.len() * TABLE.len() * 2);
    server.stop().await;
}
