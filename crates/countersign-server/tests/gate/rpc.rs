//! The gate's service over real sockets: who may call what, and a call all the way.

use std::sync::Arc;

use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::gate_service_client::GateServiceClient;
use countersign_proto::v1::{scope, switch_request};
use countersign_server::authz::{COLUMNS, GATE_TABLE, GateRpc, LIFTERS, Reach, gate_reach};
use countersign_server::drain::drain;
use countersign_server::gate::host::Step;
use countersign_server::gate::run_gate_until;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::pki::Holder;
use crate::stage::{Stage, action_id, intent};

async fn client(stage: &Stage, addr: &str, holder: &Holder) -> GateServiceClient<Channel> {
    let tls = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(&stage.server_ca.pem))
        .identity(Identity::from_pem(&holder.cert_pem, &holder.key_pem));
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).unwrap();
    GateServiceClient::new(endpoint.tls_config(tls).unwrap().connect().await.unwrap())
}

/// Calls with a message that is wrong in itself, so that nothing but leave is told apart.
async fn call(client: &mut GateServiceClient<Channel>, rpc: GateRpc) -> Result<(), Status> {
    match rpc {
        GateRpc::Evaluate => client.evaluate(v1::EvaluateRequest::default()).await.map(drop),
        GateRpc::GetAction => client.get_action(v1::GetActionRequest::default()).await.map(drop),
        GateRpc::Approve => client.approve(v1::ApproveRequest::default()).await.map(drop),
        GateRpc::ReportOutcome => {
            client.report_outcome(v1::ReportOutcomeRequest::default()).await.map(drop)
        }
        GateRpc::ActivatePolicy => {
            client.activate_policy(v1::ActivatePolicyRequest::default()).await.map(drop)
        }
        GateRpc::IssueGrant => client.issue_grant(v1::IssueGrantRequest::default()).await.map(drop),
        GateRpc::Switch => {
            let change = Some(switch_request::Change::Halt(v1::Scope { of: None }));
            let request = v1::SwitchRequest { change, reason: String::new() };
            client.switch(request).await.map(drop)
        }
        GateRpc::GetStatus => client.get_status(v1::GetStatusRequest {}).await.map(drop),
    }
}

fn code(status: &Status) -> Code {
    Refusal::from_status(status).unwrap_or_else(|| panic!("{status:?}")).code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_role_and_tenant_is_decided_as_the_table_says() {
    let stage = Stage::new().await;
    let (trigger, drain) = drain();
    let (tell, told) = oneshot::channel();
    let (checked, parts, host) = (stage.checked(), stage.parts(), Arc::clone(&stage.host));
    let running = tokio::spawn(async move {
        let on_ready = |ready: &countersign_server::gate::GateReady| {
            tell.send(ready.grpc.to_string()).unwrap();
        };
        run_gate_until(&checked, parts, host, drain, on_ready).await
    });
    let addr = told.await.unwrap();
    let mut cases = 0;
    for tenant in ["acme", "globex"] {
        for role in COLUMNS {
            let holder = stage.client_ca.holder(tenant, role, "somebody");
            let mut client = client(&stage, &addr, &holder).await;
            for (rpc, _) in GATE_TABLE {
                let answer = call(&mut client, rpc).await.map_err(|status| code(&status));
                let refused = matches!(answer, Err(Code::PermissionDenied | Code::OtherTenant));
                match (gate_reach(rpc, role), tenant) {
                    (Reach::Never, _) => assert_eq!(answer, Err(Code::PermissionDenied)),
                    (_, "acme") => assert!(!refused, "{rpc:?} {role}: {answer:?}"),
                    _ => assert_eq!(answer, Err(Code::OtherTenant), "{rpc:?} {role}"),
                }
                cases += 1;
            }
            if tenant == "acme" && gate_reach(GateRpc::Switch, role) != Reach::Never {
                let of = Some(scope::Of::Tenant(true));
                let change = Some(switch_request::Change::Resume(v1::Scope { of }));
                let request = v1::SwitchRequest { change, reason: String::new() };
                let lifted = client.switch(request).await.map_err(|status| code(&status));
                assert_eq!(lifted.is_ok(), LIFTERS.contains(&role), "{role}: {lifted:?}");
            }
        }
    }
    assert_eq!(cases, 2 * 9 * 8);

    let pep = stage.client_ca.holder("acme", Role::Pep, "pep-9");
    let mut client = client(&stage, &addr, &pep).await;
    let intent = intent(&action_id(), "read", "shop-dev").to_string();
    let request = v1::EvaluateRequest { intent, audience: String::new() };
    let answer = client.evaluate(request).await.unwrap().into_inner();
    assert_eq!((answer.outcome.as_str(), answer.recorded), ("refuse", true));
    trigger.start();
    running.await.unwrap().unwrap();
    stage.end().await;
}

/// What a probe of the HTTP port hears.
async fn probe(addr: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

// A gate that could keep nothing any more once went on calling itself ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_whose_state_has_failed_is_not_ready() {
    let stage = Stage::new().await;
    let (trigger, drain) = drain();
    let (tell, told) = oneshot::channel();
    let (checked, parts, host) = (stage.checked(), stage.parts(), Arc::clone(&stage.host));
    let running = tokio::spawn(async move {
        let on_ready = |ready: &countersign_server::gate::GateReady| {
            tell.send((ready.grpc.to_string(), ready.http.to_string())).unwrap();
        };
        run_gate_until(&checked, parts, host, drain, on_ready).await
    });
    let (grpc, http) = told.await.unwrap();
    assert!(probe(&http, "/readyz").await.starts_with("HTTP/1.1 200"));
    *stage.host.kill_at.lock().unwrap() = Some((Step::Enqueued, 0));
    let pep = stage.client_ca.holder("acme", Role::Pep, "pep-9");
    let mut client = client(&stage, &grpc, &pep).await;
    let intent = intent(&action_id(), "read", "shop-dev").to_string();
    let request = v1::EvaluateRequest { intent, audience: String::new() };
    assert_eq!(client.evaluate(request).await.unwrap().into_inner().outcome, "refuse");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut answer = String::new();
    while !answer.contains("poisoned") {
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
        answer = probe(&http, "/readyz").await;
    }
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    trigger.start();
    running.await.unwrap().unwrap();
    stage.end().await;
}
