//! Compiles `proto/` into Rust with protox (so no `protoc` is needed), and keeps the encoded
//! descriptors, comments included, for gRPC reflection.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(
        ["countersign/v1/ledger.proto", "countersign/v1/gate.proto"],
        ["../../proto"],
    )?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("countersign.binpb"), descriptors.encode_to_vec())?;
    // `bytes` fields are slices of the received message instead of copies of it.
    tonic_prost_build::configure()
        .bytes(".countersign.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
