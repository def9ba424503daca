//! The ledger's wire API: generated messages and gRPC stubs, the one mapping of error codes to
//! gRPC statuses, conversions to and from domain types, and nothing that decides anything.
//!
//! `proto/countersign/v1/ledger.proto` is the reference of the API; its comments are repeated in
//! [`v1`]. What arrives in those types is unchecked bytes; [`convert`] makes domain types of it.

pub mod convert;
pub mod errors;

/// Package `countersign.v1`, as generated.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "generated code keeps its generator's habits"
    )]
    tonic::include_proto!("countersign.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of the whole API, comments included, as gRPC
/// reflection serves it.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/countersign.binpb"));

/// [`FILE_DESCRIPTOR_SET`], decoded.
pub fn descriptors() -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    use prost::Message as _;
    prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
}
