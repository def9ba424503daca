//! What tells a receiver that a signal is its gate's (HOOK-4).

use countersign_core::encoding::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The header of the signature.
pub const SIGNATURE: &str = "countersign-signature";

/// The value of that header: `t=<unix seconds>,v1=<hex HMAC-SHA256(secret, t "." body)>`.
pub fn sign(secret: &[u8], at_seconds: u64, body: &[u8]) -> String {
    // HMAC takes keys of every length; `new_from_slice` never fails for it.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        unreachable!("bad math in HMAC: it has no wrong key length");
    };
    mac.update(at_seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("t={at_seconds},v1={}", hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hook_4_the_worked_example_of_the_page() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let page = include_str!("../../../../../spec/webhook.md");
        let body = page.lines().find(|line| line.starts_with("{\"action_id\"")).unwrap_or_default();
        let header = sign(secret, 1_795_435_202, body.as_bytes());
        assert!(!body.is_empty());
        assert!(page.contains(&format!("Countersign-Signature: {header}\n")), "{header}");
    }
}
