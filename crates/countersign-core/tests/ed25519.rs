//! Strict Ed25519 against the Wycheproof cases.

use std::fs;
use std::path::Path;

use countersign_core::codes::Code;
use countersign_core::seal::verify_signature;
use serde_json::Value;

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex").to_owned();
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex"))
        .collect()
}

#[test]
fn wycheproof_cases_behave_as_they_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/ed25519/wycheproof_ed25519_test.json");
    let Ok(file) = fs::read(file) else {
        println!("../shared/vectors/ed25519 is absent: 151 Wycheproof cases were not run");
        return;
    };
    let file: Value = serde_json::from_slice(&file).expect("json");
    let mut run = 0;
    for group in file.get("testGroups").and_then(Value::as_array).expect("groups") {
        let key = bytes(group.pointer("/publicKey/pk").expect("key"));
        for case in group.get("tests").and_then(Value::as_array).expect("tests") {
            let message = bytes(case.get("msg").expect("message"));
            let signature = bytes(case.get("sig").expect("signature"));
            let accepted = match (key.as_slice().try_into(), signature.as_slice().try_into()) {
                (Ok(key), Ok(signature)) => {
                    verify_signature(key, &message, signature, Code::SealSignature).is_ok()
                }
                // What is not 32 and 64 bytes can't even be asked about.
                _ => false,
            };
            let valid = case.get("result").and_then(Value::as_str) == Some("valid");
            assert_eq!(accepted, valid, "case {:?}", case.get("tcId"));
            run += 1;
        }
    }
    assert_eq!(run, 151);
}
