//! What the ledger serves, read by others (TILE-1 to TILE-7, NOTE-2, NOTE-3, NOTE-10).

use countersign_core::encoding::hex;
use countersign_core::hash::sha256;
use countersign_core::merkle::leaf_hash;

use crate::ours::Ours;
use crate::tools::Tool;

/// Three full tiles and a part of one; a tile above them.
const BATCHES: usize = 4;
/// The C2SP page's example of a vkey.
const OTHER: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

/// golang.org/x/mod: note.Open, and every proof by a tlog.TileHashReader over HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_proves_all_that_we_serve() {
    let Some(go) = Tool::go() else { return };
    let ours = Ours::of(BATCHES).await;
    assert_eq!(go.says(&ours.read(&ours.url())), ours.proved());
    let mut other = ours.read(&ours.url());
    OTHER.clone_into(&mut other[2]);
    // Only the clock's line verifies then.
    go.refuses(&other, "1 signatures of 2 are known");
}

/// aics-tlog: verify_checkpoint with the clock as a witness, audit_tiles, and every proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_proves_all_that_we_serve() {
    let Some(python) = Tool::python() else { return };
    let ours = Ours::of(BATCHES).await;
    assert_eq!(python.says(&ours.read(&ours.url())), ours.proved());
    let mut other = ours.read(&ours.url());
    OTHER.clone_into(&mut other[2]);
    python.refuses(&other, "no signature from log key example.com/foo");
}

/// signed_note and tlog_tiles, on an export (TILE-9); what is not as it was is seen. Their reader of
/// tiles does not hold every tile against the one above: the proofs that it leads to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_crates_prove_all_that_we_export() {
    let Some(rust) = Tool::rust() else { return };
    let ours = Ours::of(BATCHES).await;
    let export = ours.export();
    let read = ours.read(export.to_str().unwrap());
    assert_eq!(rust.says(&read), ours.proved());
    for (file, why) in [
        ("checkpoint", "InvalidSignature"),
        ("tile/0/001", "entry 256 is not its leaf"),
        ("tile/1/000.p/3", "InconsistentTile"),
        ("tile/entries/002", "is not its leaf"),
    ] {
        let path = export.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        // In the origin, in a hash, in an entry behind its length.
        bad[5] ^= 1;
        std::fs::write(&path, bad).unwrap();
        rust.refuses(&read, why);
        std::fs::write(&path, good).unwrap();
    }
    // An entry that was altered together with its leaf.
    let [bundle, tile] = ["tile/entries/001", "tile/0/001"].map(|name| export.join(name));
    let mut entries = std::fs::read(&bundle).unwrap();
    let mut leaves = std::fs::read(&tile).unwrap();
    entries[60] ^= 1;
    leaves[..32].copy_from_slice(&leaf_hash(&entries[2..68]).0);
    std::fs::write(&bundle, entries).unwrap();
    std::fs::write(&tile, leaves).unwrap();
    rust.refuses(&read, "InvalidProof");
}

/// curl: compressed or not the bytes are the same, and what is known is not sent again (TILE-7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_what_it_asks_for() {
    let Some(curl) = Tool::curl() else { return };
    let ours = Ours::of(2).await;
    let dir = ours.stage.dir.path();
    let [plain, packed, tag, again] =
        ["plain", "packed", "tag", "again"].map(|name| dir.join(name).to_str().unwrap().to_owned());
    let bundle = format!("{}/tile/entries/000", ours.url());
    let asked = "%{http_code} %{size_download}";
    let said = curl.says(&["--output", &plain, "--write-out", asked, &bundle]);
    assert_eq!(said, format!("200 {}", 256 * 68));
    let compressed = ["--compressed", "--etag-save", &tag, "--output", &packed];
    let said = curl.says(&[&compressed[..], &["--write-out", asked, &bundle]].concat());
    let sent: usize = said.strip_prefix("200 ").unwrap().parse().unwrap();
    assert!(sent < 256 * 68, "{sent} bytes were sent");
    let plain = std::fs::read(plain).unwrap();
    assert_eq!(hex(&sha256(&std::fs::read(packed).unwrap())), hex(&sha256(&plain)));
    let known = ["--compressed", "--etag-compare", &tag, "--output", &again];
    let said = curl.says(&[&known[..], &["--write-out", asked, &bundle]].concat());
    assert_eq!(said, "304 0");
    // The other encoding has another tag.
    let said = curl.says(&[&known[1..], &["--write-out", "%{http_code}", &bundle]].concat());
    assert_eq!(said, "200");
}
