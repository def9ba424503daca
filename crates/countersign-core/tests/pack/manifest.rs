//! The manifest's one spelling, and its bounds.

use countersign_core::codes::Code;
use countersign_core::pack::Manifest;

use super::scene::Scene;

fn refused(text: &str) -> Code {
    Manifest::parse(text.as_bytes()).unwrap_err().code
}

#[test]
fn a_manifest_has_one_spelling() {
    let scene = Scene::new();
    let bytes = scene.pack(5).manifest.to_bytes();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(Manifest::parse(&bytes).unwrap().to_bytes(), bytes);
    let first = text.lines().find(|line| line.contains("README.txt")).unwrap().to_owned();
    for (name, changed, code) in [
        ("space", text.replace(": ", ":"), Code::PackManifest),
        ("no final newline", text.trim_end().to_owned(), Code::PackManifest),
        ("a second newline", format!("{text}\n"), Code::PackManifest),
        ("a member that does not exist", text.replacen("\"head\":", "\"heads\":", 1), Code::PackManifest),
        ("version two", text.replace("pack/v1", "pack/v2"), Code::VersionUnknown),
        ("no version", text.replace("pack/v1", "packs/v1"), Code::PackManifest),
        ("a file twice", text.replace(&first, &format!("{first}\n{first}")), Code::PackManifest),
        ("upper case digest", text.replace("\"README.txt\": \"", "\"README.txt\": \"A"), Code::PackManifest),
        ("a path out of the folder", text.replace("peaks.bin", "../peaks.bin"), Code::PackPath),
        ("a path with an escape", text.replace("peaks.bin", "peaks\\u002ebin"), Code::PackManifest),
        ("a tenant that is no name", text.replace("\"tenant\": \"acme\"", "\"tenant\": \"a/b\""), Code::PackManifest),
        ("an origin that is none", text.replace("ledger.acme.example/prod", "a b"), Code::PackManifest),
        ("from after to", text.replace("\"from\": 5", "\"from\": 50"), Code::PackManifest),
        ("to beyond the head", text.replace("\"to\": ", "\"to\": 9"), Code::PackManifest),
        ("a number as a text", text.replace("\"from\": 5", "\"from\": \"5\""), Code::PackManifest),
        ("a number with a fraction", text.replace("\"from\": 5", "\"from\": 5.0"), Code::PackManifest),
        ("a filter that does not exist", text.replace("\"filters\": []", "\"filters\": [\n   {\n    \"field\": \"colour\",\n    \"value\": \"red\"\n   }\n  ]"), Code::PackManifest),
        ("no keys", text.replace("\"keys\": [", "\"keyz\": ["), Code::PackManifest),
        ("not JSON", "{".to_owned(), Code::PackManifest),
        ("an array", "[]".to_owned(), Code::PackManifest),
        ("nothing", String::new(), Code::PackManifest),
        ("no README", text.replace(&format!("{first}\n"), ""), Code::PackManifest),
    ] {
        assert_ne!(changed, text, "{name}: something was changed");
        assert_eq!(refused(&changed), code, "{name}");
    }
}

#[test]
fn claims_and_the_files_that_prove_them_go_together() {
    let scene = Scene::new();
    let size = scene.log.size();
    let whole = scene.pack(5).manifest;
    let without = |path: &str| {
        let mut manifest = whole.clone();
        manifest.files.retain(|file, _| file.to_string() != path);
        Manifest::parse(&manifest.to_bytes()).unwrap_err().code
    };
    assert_eq!(without("entries.bin"), Code::PackClaims);
    assert_eq!(without("peaks.bin"), Code::PackClaims);
    assert_eq!(without("heads/00000000000000000005.note"), Code::PackHeadMissing);
    assert_eq!(without(&format!("heads/{size:020}.note")), Code::PackHeadMissing);
    let mut none = whole.clone();
    none.claims = None;
    assert_eq!(Manifest::parse(&none.to_bytes()).unwrap_err().code, Code::PackClaims);
    let keys: [fn(&mut Manifest); 4] = [
        |m| m.claims.as_mut().unwrap().keys.clear(),
        |m| {
            let keys = &mut m.claims.as_mut().unwrap().keys;
            keys.push(keys[0].clone());
        },
        |m| m.claims.as_mut().unwrap().keys[0].tenant = "globex".to_owned(),
        |m| m.claims.as_mut().unwrap().keys[0].gate = "a/b".to_owned(),
    ];
    for change in keys {
        let mut manifest = whole.clone();
        change(&mut manifest);
        let fault = Manifest::parse(&manifest.to_bytes()).unwrap_err();
        assert_eq!(fault, Code::PackManifest.at_field("keys"));
    }
}
