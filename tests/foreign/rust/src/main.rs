//! Other people's crates as a program that the tests run: signed_note and tlog_tiles of Cloudflare's
//! azul, sigsum of Mullvad. Nothing of this project is in it but the form of a cosignature, which
//! these crates do not know.
//!
//! - `read DIR VKEY CLOCK-VKEY`: opens an export's checkpoint and proves every entry and every
//!   smaller tree from its tiles.
//! - `make DIR ORIGIN SIZE…`: a log of its own, with a head, a consistency proof and tiles of each size.
//! - `sigsum POLICY SIGNATURE MESSAGE SIGNER`: verifies a logged signature of Sigsum.
//!
//! It ends with an error at the first thing that does not hold.

mod make;
mod read;

use std::error::Error;

/// Whatever went wrong, as a sentence.
type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["read", dir, vkey, clock] => read::run(dir.as_ref(), vkey, clock),
        ["make", dir, origin, sizes @ ..] => make::run(dir.as_ref(), origin, sizes),
        ["sigsum", policy, signature, message, signer] => {
            sigsum(policy, signature, message, signer)
        }
        _ => Err("read DIR VKEY CLOCK, make DIR ORIGIN SIZE…, or sigsum …".into()),
    }
}

/// Files of the policy, the signature and the message, and the signer's key in hex.
fn sigsum(policy: &str, signature: &str, message: &str, signer: &str) -> Outcome {
    let policy = sigsum::Policy::parse(&std::fs::read_to_string(policy)?)?;
    let signature = std::fs::read_to_string(signature)?;
    let signature = sigsum::SigsumSignature::from_ascii(&signature)?;
    let message = sigsum::Hash::new(std::fs::read(message)?);
    let signer: [u8; 32] = hex::decode(signer)?.try_into().map_err(|_| "no key of 32 bytes")?;
    sigsum::verify(&message, &signature, &[signer.into()], &policy)?;
    println!("verified");
    Ok(())
}
