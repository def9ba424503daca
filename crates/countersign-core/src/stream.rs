//! Stream names: derived, never chosen (spec/stream.md).

use crate::codes::{Code, Fault};
use crate::encoding::{from_hex_array, hex, is_name, is_origin, lp};
use crate::hash::Context;

/// The name of a stream: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 16]);

impl std::fmt::Debug for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamId({})", self.hex())
    }
}

impl StreamId {
    /// The ledger's own stream: sixteen zero bytes (STR-5).
    pub const LEDGER: Self = Self([0; 16]);

    /// Derives a gate's stream (STR-1): H("stream", lp(origin) || lp(tenant) || lp(gate) ||
    /// seal key) cut to 12 bytes, then u32 n.
    pub fn derive(
        origin: &str,
        tenant: &str,
        gate: &str,
        seal_key: &[u8; 32],
        instance: u32,
    ) -> Result<Self, Fault> {
        if !is_origin(origin) {
            return Err(Code::OriginMalformed.into());
        }
        if !is_name(tenant) || !is_name(gate) {
            return Err(Code::NameMalformed.into());
        }
        let part = |text| lp(text).ok_or(Code::NameMalformed);
        let digest =
            Context::Stream.hash(&[&part(origin)?, &part(tenant)?, &part(gate)?, seal_key]);
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(digest.iter().take(12).chain(&instance.to_be_bytes()))
        {
            *to = *from;
        }
        Ok(Self(name))
    }

    /// Whether this is a stream of that origin, tenant, gate and key, whatever its instance.
    pub fn is_derived(&self, origin: &str, tenant: &str, gate: &str, seal_key: &[u8; 32]) -> bool {
        Self::derive(origin, tenant, gate, seal_key, self.instance()).is_ok_and(|id| id == *self)
    }

    /// The instance number in its last four bytes.
    pub fn instance(&self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Lower-case hex, as records write it.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads the hex that records write.
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex_array(text).map(Self)
    }
}
