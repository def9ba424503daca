//! The AuthZEN port: who may ask, what they get, and that whoever may not gets nothing.

use std::net::SocketAddr;

use countersign_server::config::Transport;
use countersign_server::gate::authzen::{BODY_BYTES_MAX, EVALUATIONS_MAX, Port};
use rcgen::SanType;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::port::{EVIDENCE, Oracle, PEP, Running, exchange, post, request, revoke};
use crate::support::Authority;

const ONE: &str = "/access/v1/evaluation";
const MANY: &str = "/access/v1/evaluations";

#[tokio::test]
async fn azn_7_an_approve_is_true_with_its_permit_and_its_evidence() {
    let gate = Running::start().await;
    let mut asked = request("t:approve");
    asked["subject"]["properties"] = json!({"session": "s-118"});
    asked["context"] = json!({"task": {"ticket": "OPS-1"}, "audience": "deployer"});
    let answer = gate.post(ONE, &asked.to_string()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-request-id"), Some("req-7"), "AZN-2");
    let said = answer.json();
    assert_eq!(said["decision"], true);
    let context = &said["context"];
    assert_eq!(context["authority"], true);
    assert_eq!(context["mode"], "enforce");
    assert_eq!(context["obligations"][0]["permit"], "permit-1");
    assert_eq!(context["obligations"][0]["nonce"], "00".repeat(16));
    assert_eq!(context["evidence"]["file"], EVIDENCE);
    let (caller, intent, audience) = gate.oracle.asked.lock().unwrap()[0].clone();
    assert_eq!(caller, PEP);
    assert_eq!(intent["actor"]["session"], "s-118");
    assert_eq!(intent["task"]["ticket"], "OPS-1");
    assert_eq!(audience, "deployer");
}

#[tokio::test]
async fn azn_7_a_refuse_and_a_supervise_are_false_and_say_why_and_what_releases_it() {
    let gate = Running::start().await;
    let refused = gate.evaluate("t:refuse").await;
    assert_eq!(refused.status, 200);
    let refused = refused.json();
    assert_eq!(refused["decision"], false);
    assert_eq!(refused["context"]["outcome"], "refuse");
    assert_eq!(refused["context"]["reasons"][0]["code"], "R_REFUSE");
    assert_eq!(refused["context"]["reason_admin"]["403"], "R_REFUSE (refuse.it)");
    assert_eq!(refused["context"].get("obligations"), None);

    let held = gate.evaluate("t:supervise").await.json();
    assert_eq!(held["decision"], false);
    let release = &held["context"]["access_request"];
    assert_eq!(release["requires"]["approvals"], 2);
    assert_eq!(release["requires"]["roles"], json!(["sre-oncall"]));
    // AZN-11: the same request with the context that it names.
    let mut again = request("t:approve");
    again["context"] = release["poll"]["context"].clone();
    let released = gate.post(ONE, &again.to_string()).await.json();
    assert_eq!(released["decision"], true);
    assert_eq!(released["context"]["id"], held["context"]["id"]);
}

#[tokio::test]
async fn azn_8_a_shadow_gate_lets_pass_without_authority() {
    let shadow = Oracle { shadow: true, ..Oracle::default() };
    let gate = Running::start_with(shadow, |_, _| {}).await;
    for verb in ["t:approve", "t:refuse", "t:supervise"] {
        let said = gate.evaluate(verb).await.json();
        assert_eq!(said["decision"], true, "{verb}");
        assert_eq!(said["context"]["authority"], false, "{verb}");
        assert_eq!(said["context"]["mode"], "shadow", "{verb}");
        assert_eq!(said["context"].get("obligations"), None, "{verb}");
    }
    // What can't be judged is no decision in any mode.
    assert_eq!(gate.evaluate("t:internal").await.status, 500);
    assert_eq!(gate.post(ONE, "{}").await.status, 400);
}

#[tokio::test]
async fn azn_3_what_is_no_request_is_told_so_and_is_no_decision() {
    let gate = Running::start().await;
    let twice = request("t:approve").to_string().replacen('{', "{\"action\":{\"name\":\"x\"},", 1);
    let deep = format!(r#"{{"subject":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let mut batch = request("t:approve");
    batch["evaluations"] = json!([{}]);
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "\u{feff}{}",
        r#"{"subject":"\ud800"}"#,
        &twice,
        &deep,
        &batch.to_string(),
        &json!({"subject": {"type": "agent", "id": "a"}}).to_string(),
    ];
    for body in bodies {
        let answer = gate.post(ONE, body).await;
        assert_eq!(answer.status, 400, "{body} {answer:?}");
        assert!(answer.body.starts_with("REQUEST_MALFORMED: "), "{answer:?}");
        assert!(!answer.body.contains("decision"), "{answer:?}");
        assert_eq!(answer.header("x-request-id"), Some("req-7"), "AZN-2");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    }
    let good = request("t:approve").to_string();
    let holder = gate.client_ca.client(PEP);
    let text = String::from_utf8(post(ONE, &good)).unwrap();
    for other in ["text/plain", "application/jsonp", "multipart/form-data"] {
        let request = text.replace("application/json; charset=utf-8", other);
        let answer = gate.raw(Some(&holder), request.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 400, "{other}");
    }
    let mut bytes = post(ONE, &good);
    *bytes.last_mut().unwrap() = 0xff;
    assert_eq!(gate.raw(Some(&holder), &bytes).await.unwrap().status, 400);
    assert_eq!(gate.post("/access/v1/search/subject", &good).await.status, 404);
    let get = format!("GET {ONE} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n");
    let wrong = gate.raw(Some(&holder), get.as_bytes()).await.unwrap();
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(gate.asked(), 0, "the gate was asked nothing");
}

#[tokio::test]
async fn azn_3_a_body_that_is_too_large_is_not_read_to_its_end() {
    let gate = Running::start().await;
    let mut fits = request("t:approve");
    let room = BODY_BYTES_MAX - fits.to_string().len() - r#","pad":"""#.len();
    fits["pad"] = json!("x".repeat(room));
    assert_eq!(fits.to_string().len(), BODY_BYTES_MAX);
    assert_eq!(gate.post(ONE, &fits.to_string()).await.json()["decision"], true);
    fits["pad"] = json!("x".repeat(room + 1));
    let over = gate.post(ONE, &fits.to_string()).await;
    assert_eq!(over.status, 413, "{over:?}");
    assert!(!over.body.contains("decision"));
    // In chunks, without a length to look at.
    let holder = gate.client_ca.client(PEP);
    let mut chunked = format!(
        "POST {ONE} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
    chunked.push_str(&chunk.repeat(80));
    chunked.push_str("0\r\n\r\n");
    let answer = gate.raw(Some(&holder), chunked.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(gate.asked(), 1);
}

#[tokio::test]
async fn azn_1_strangers_get_no_answer_and_others_no_decision() {
    let client_ca = Authority::new();
    let revoked = client_ca.client(PEP);
    let gate = Running::start_with(Oracle::default(), |config, _| {
        revoke(config, &revoked);
        let roots = &config.tls.as_ref().unwrap().client_roots[0];
        std::fs::write(roots, &client_ca.pem).unwrap();
    })
    .await;
    let body = post(ONE, &request("t:approve").to_string());
    assert!(gate.raw(None, &body).await.is_none(), "no certificate");
    let stranger = Authority::new().client(PEP);
    assert!(gate.raw(Some(&stranger), &body).await.is_none(), "another authority");
    let expired = client_ca.issue(|params| {
        params.subject_alt_names = vec![SanType::URI(PEP.try_into().unwrap())];
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    assert!(gate.raw(Some(&expired), &body).await.is_none(), "expired");

    let nobody = client_ca.issue(|_| {});
    let domain = client_ca.client("spiffe://evil.example/tenant/acme/pep/gateway-1");
    for (holder, status) in [(&nobody, 401), (&domain, 401), (&revoked, 401)] {
        assert_eq!(gate.raw(Some(holder), &body).await.unwrap().status, status);
    }
    for uri in [
        "spiffe://acme.example/tenant/other/pep/gateway-1",
        "spiffe://acme.example/tenant/acme/gate/prod-1",
        "spiffe://acme.example/tenant/acme/auditor/ann",
        "spiffe://acme.example/tenant/acme/approver/alice",
        "spiffe://acme.example/tenant/acme/operator/ops",
        "spiffe://acme.example/tenant/acme/policy-admin/bob",
    ] {
        let answer = gate.raw(Some(&client_ca.client(uri)), &body).await.unwrap();
        assert_eq!(answer.status, 403, "{uri}");
        assert!(!answer.body.contains("decision"), "{answer:?}");
    }
    assert_eq!(gate.asked(), 0);
    let good = client_ca.client(PEP);
    assert_eq!(gate.raw(Some(&good), &body).await.unwrap().json()["decision"], true);
}

#[tokio::test]
async fn azn_1_http_1_over_tls_and_nothing_else() {
    let gate = Running::start().await;
    let holder = gate.client_ca.client(PEP);
    assert!(gate.connect(Some(&holder), &[b"h2"]).await.is_err(), "no protocol in common");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = gate.raw(Some(&holder), preface).await;
    assert!(answer.is_none_or(|answer| answer.status == 400 || answer.status == 505));
    let plain = TcpStream::connect(gate.addr).await.unwrap();
    let answer = exchange(plain, &post(ONE, &request("t:approve").to_string())).await;
    assert!(answer.is_none_or(|answer| answer.status != 200), "plain TCP");
    assert_eq!(gate.asked(), 0);
    assert_eq!(gate.evaluate("t:approve").await.json()["decision"], true);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let gate = Running::start().await;
    let holder = gate.client_ca.client(PEP);
    let mut stream = gate.connect(Some(&holder), &[]).await.unwrap();
    for verb in ["t:approve", "t:refuse", "t:approve"] {
        let body = post(ONE, &request(verb).to_string());
        let body = String::from_utf8(body).unwrap().replace("connection: close\r\n", "");
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.ends_with("}}") {
            let mut bytes = [0; 16 * 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "closed after {text}");
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        let said: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(said["decision"], verb == "t:approve");
    }
}

#[tokio::test]
async fn azn_9_a_batch_is_judged_in_order_with_its_defaults() {
    let gate = Running::start().await;
    let mut batch = request("t:approve");
    batch["futureField"] = json!(1);
    batch["evaluations"] = json!([
        {},
        {"action": {"name": "t:refuse"}},
        {"resource": {"id": "half"}},
        7,
        {"action": {"name": "t:internal"}},
        {"action": {"name": "t:supervise"}, "context": {"audience": "deployer"}},
    ]);
    let answer = gate.post(MANY, &batch.to_string()).await;
    assert_eq!(answer.status, 200);
    let said = answer.json();
    assert_eq!(said.get("decision"), None);
    let said = said["evaluations"].as_array().unwrap();
    let decisions: Vec<&Value> = said.iter().map(|each| &each["decision"]).collect();
    assert_eq!(decisions, [true, false, false, false, false, false]);
    assert_eq!(said[0]["context"]["ignored"], json!(["futureField"]));
    assert_eq!(said[1]["context"]["outcome"], "refuse");
    assert_eq!(said[2]["context"]["error"]["status"], 400);
    assert_eq!(said[3]["context"]["error"]["status"], 400);
    assert_eq!(said[4]["context"]["error"]["status"], 500);
    assert!(!said[4].to_string().contains("secret"), "what is inside stays inside");
    assert_eq!(said[5]["context"]["outcome"], "supervise");
    let asked = gate.oracle.asked.lock().unwrap();
    let verbs: Vec<&Value> = asked.iter().map(|(_, intent, _)| &intent["verb"]).collect();
    assert_eq!(verbs, ["t:approve", "t:refuse", "t:internal", "t:supervise"]);
    assert_eq!(asked[3].2, "deployer");
}

#[tokio::test]
async fn azn_10_a_batch_stops_where_its_semantic_says_and_holds_no_more_than_it_may() {
    let gate = Running::start().await;
    let ask = async |semantic: Value, verbs: &[&str]| {
        let items: Vec<Value> =
            verbs.iter().map(|verb| json!({"action": {"name": verb}})).collect();
        let mut batch = request("t:refuse");
        batch["evaluations"] = json!(items);
        batch["options"] = json!({"evaluations_semantic": semantic, "another_option": 1});
        gate.post(MANY, &batch.to_string()).await
    };
    let count = |said: &Value| said["evaluations"].as_array().unwrap().len();
    let three = ["t:approve", "t:refuse", "t:approve"];
    assert_eq!(count(&ask(json!("execute_all"), &three).await.json()), 3);
    assert_eq!(count(&ask(json!("deny_on_first_deny"), &three).await.json()), 2);
    assert_eq!(count(&ask(json!("permit_on_first_permit"), &three).await.json()), 1);
    // A failure is a denial.
    let failing = ["t:internal", "t:approve"];
    assert_eq!(count(&ask(json!("deny_on_first_deny"), &failing).await.json()), 1);
    assert_eq!(count(&ask(json!("permit_on_first_permit"), &failing).await.json()), 2);
    for unknown in [json!("first"), json!(null), json!(7)] {
        assert_eq!(ask(unknown.clone(), &three).await.status, 400, "{unknown}");
    }
    let before = gate.asked();
    let all = json!("execute_all");
    assert_eq!(ask(all.clone(), &["t:refuse"; EVALUATIONS_MAX + 1]).await.status, 400);
    assert_eq!(gate.asked(), before);
    assert_eq!(count(&ask(all, &["t:refuse"; EVALUATIONS_MAX]).await.json()), EVALUATIONS_MAX);

    // Without evaluations it is the other endpoint.
    for empty in [None, Some(json!([]))] {
        let mut one = request("t:approve");
        if let Some(empty) = empty {
            one["evaluations"] = empty;
        }
        assert_eq!(gate.post(MANY, &one.to_string()).await.json()["decision"], true);
    }
    let mut wrong = request("t:approve");
    wrong["evaluations"] = json!({});
    assert_eq!(gate.post(MANY, &wrong.to_string()).await.status, 400);
}

#[tokio::test]
async fn azn_12_a_gate_that_can_not_judge_gives_an_error_and_no_decision() {
    let gate = Running::start_with(Oracle::default(), |config, _| {
        config.limits.request_timeout_ms = 200;
    })
    .await;
    for (verb, status, code) in [
        ("t:internal", 500, "INTERNAL"),
        ("t:stopping", 503, "LEDGER_STOPPING"),
        ("t:malformed", 400, "REQUEST_MALFORMED"),
        ("t:hang", 503, "EVIDENCE_UNAVAILABLE"),
    ] {
        let answer = gate.evaluate(verb).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.starts_with(code), "{answer:?}");
        assert!(!answer.body.contains("decision") && !answer.body.contains("approve"));
        assert!(!answer.body.contains("secret inner fault"));
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
    // In a batch the time is for all of it: what comes after it is not asked for ever.
    let mut batch = request("t:hang");
    batch["evaluations"] = json!([{"action": {"name": "t:approve"}}, {}, {}]);
    let said = gate.post(MANY, &batch.to_string()).await.json();
    assert_eq!(said["evaluations"][0]["decision"], true);
    assert_eq!(said["evaluations"][1]["context"]["error"]["status"], 503);
    assert_eq!(said["evaluations"][2]["decision"], false);
}

#[tokio::test]
async fn what_does_not_fit_is_told_when_to_come_back() {
    let oracle = Oracle {
        begun: Some(Semaphore::new(0)),
        release: Some(Semaphore::new(0)),
        ..Oracle::default()
    };
    let gate = Running::start_with(oracle, |config, _| config.limits.calls_in_flight_max = 1).await;
    let waiting = gate.evaluate("t:wait");
    let shed = async {
        gate.oracle.begun.as_ref().unwrap().acquire().await.unwrap().forget();
        let shed = gate.evaluate("t:approve").await;
        gate.oracle.release.as_ref().unwrap().add_permits(1);
        shed
    };
    let (waited, shed) = tokio::join!(waiting, shed);
    assert_eq!((shed.status, shed.header("retry-after")), (503, Some("1")));
    assert_eq!(waited.json()["decision"], true);
    assert_eq!(gate.evaluate("t:approve").await.json()["decision"], true);
}

#[tokio::test]
async fn silence_and_trickle_hold_a_place_only_so_long() {
    let gate = Running::start_with(Oracle::default(), |config, _| {
        config.limits.request_timeout_ms = 200;
        config.limits.handshake_timeout_ms = 200;
    })
    .await;
    let holder = gate.client_ca.client(PEP);
    let silent = TcpStream::connect(gate.addr).await.unwrap();
    assert!(exchange(silent, b"").await.is_none(), "no handshake");
    assert!(gate.raw(Some(&holder), b"").await.is_none(), "no request");
    let head = gate.raw(Some(&holder), b"POST /access/v1/evaluation HTTP/1.1\r\nhost: g").await;
    assert!(head.is_none_or(|answer| answer.status == 408), "half a head");
    let body = post(ONE, &request("t:approve").to_string());
    let half = gate.raw(Some(&holder), &body[..body.len() - 9]).await.unwrap();
    assert_eq!(half.status, 408, "half a body");
    assert_eq!(gate.asked(), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let gate =
        Running::start_with(Oracle::default(), |config, _| config.limits.connections_max = 1).await;
    let holder = gate.client_ca.client(PEP);
    let first = gate.connect(Some(&holder), &[]).await.unwrap();
    assert!(gate.connect(Some(&holder), &[]).await.is_err());
    drop(first);
    let body = post(ONE, &request("t:approve").to_string());
    loop {
        // The place is free as soon as the server has seen the end of the first connection.
        if let Ok(stream) = gate.connect(Some(&holder), &[]).await {
            assert_eq!(exchange(stream, &body).await.unwrap().status, 200);
            break;
        }
    }
}

#[tokio::test]
async fn what_is_in_flight_is_answered_when_the_gate_stops() {
    let oracle = Oracle {
        begun: Some(Semaphore::new(0)),
        release: Some(Semaphore::new(0)),
        ..Oracle::default()
    };
    let gate = Running::start_with(oracle, |_, _| {}).await;
    let holder = gate.client_ca.client(PEP);
    let idle = gate.connect(Some(&holder), &[]).await.unwrap();
    let waiting = gate.evaluate("t:wait");
    let stopping = async {
        gate.oracle.begun.as_ref().unwrap().acquire().await.unwrap().forget();
        gate.drain.start();
        assert!(exchange(idle, b"").await.is_none(), "what is idle is closed");
        gate.oracle.release.as_ref().unwrap().add_permits(1);
    };
    let (waited, ()) = tokio::join!(waiting, stopping);
    assert_eq!(waited.json()["decision"], true);
    tokio::time::timeout(std::time::Duration::from_secs(20), gate.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(gate.addr).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn azn_1_plain_tcp_is_for_development_on_loopback() {
    let gate = Running::start_with(Oracle::default(), |config, _| {
        config.tls = None;
        config.insecure_dev_identity = Some(PEP.to_owned());
    })
    .await;
    let stream = TcpStream::connect(gate.addr).await.unwrap();
    let answer = exchange(stream, &post(ONE, &request("t:approve").to_string())).await.unwrap();
    assert_eq!(answer.json()["decision"], true);
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let insecure = Transport::InsecureLoopback(PEP.parse().unwrap());
    let error = Port::bind(anywhere, &insecure).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}

#[tokio::test]
async fn azn_13_the_metadata_name_what_is_there() {
    let gate = Running::start().await;
    let get = "GET /.well-known/authzen-configuration HTTP/1.1\r\nhost: x\r\n\
               connection: close\r\n\r\n";
    let auditor = gate.client_ca.client("spiffe://acme.example/tenant/acme/auditor/ann");
    let answer = gate.raw(Some(&auditor), get.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200);
    let expected = json!({
        "policy_decision_point": "https://gate.acme.example",
        "access_evaluation_endpoint": "https://gate.acme.example/access/v1/evaluation",
        "access_evaluations_endpoint": "https://gate.acme.example/access/v1/evaluations",
    });
    assert_eq!(answer.json(), expected);
    let posted = gate.post("/.well-known/authzen-configuration", "{}").await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET")));
}
