//! Every bound on what a client may make the server hold, with its default and its reason.
//!
//! tonic and h2 ship with most of these unset. They are set here, in one place, and each can be
//! changed in `[limits]` of the configuration within the range that [`Limits::check`] allows.

use std::time::Duration;

use countersign_log::ledger::BLOB_BYTES_MAX;
use serde::{Deserialize, Serialize};
use tonic::transport::Server;

/// Bytes that a message may have beyond its content: protobuf's framing and the other fields.
const FRAMING_BYTES: usize = 64 * 1024;

/// Bytes that the answer to one record may have: its entry, a proof of 40 hashes, and for a repeat
/// the first seal with its path and the first head.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// The section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections, handshakes included. Those beyond are closed at once, so that a client
    /// sees it and does not hang.
    pub connections_max: usize,
    /// Milliseconds for the TLS handshake, and again for the HTTP/2 preface that follows it: an
    /// open socket that says nothing holds a place for no longer.
    pub handshake_timeout_ms: u64,
    /// Milliseconds until the handler of a call must have answered (for a stream of calls: must
    /// have begun to).
    pub request_timeout_ms: u64,
    /// HTTP/2 streams that may be open on one connection.
    pub streams_per_connection_max: u32,
    /// Calls of one connection that are worked on at once; those beyond wait.
    pub calls_per_connection_max: usize,
    /// Calls of all connections that are worked on at once; those beyond are answered `OVERLOADED`
    /// with a time to come back.
    pub calls_in_flight_max: usize,
    /// Bytes of one batch as a message. A message may be larger only to carry a policy's texts.
    pub batch_bytes_max: usize,
    /// Records of one batch.
    pub batch_records_max: usize,
    /// Batches that one `SubmitStream` may have waiting for their answers.
    pub batches_in_flight_max: usize,
    /// Bytes of the records, of all calls together, that may wait to be written. A batch that finds
    /// no room within a second is refused as `OVERLOADED`.
    pub queued_bytes_max: usize,
    /// Bytes of the headers of one call.
    pub header_bytes_max: u32,
    /// Bytes of one HTTP/2 frame. Larger ones mean fewer of them for a batch.
    pub frame_bytes_max: u32,
    /// Bytes that a stream may have sent before the server read them.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together.
    pub connection_window_bytes: u32,
    /// Milliseconds between pings on a connection: one whose peer vanished is found so.
    pub keepalive_interval_ms: u64,
    /// Milliseconds that the answer to a ping may take.
    pub keepalive_timeout_ms: u64,
    /// Streams that a client has reset and that the server has not yet seen the end of: the bound
    /// that stops "rapid reset" (CVE-2023-44487).
    pub pending_reset_streams_max: usize,
    /// Streams that the server itself had to reset for the client's errors, before it gives up on
    /// the connection.
    pub error_reset_streams_max: usize,
    /// Open connections to the HTTP port.
    pub http_connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            handshake_timeout_ms: 5_000,
            request_timeout_ms: 30_000,
            streams_per_connection_max: 256,
            calls_per_connection_max: 256,
            calls_in_flight_max: 1_024,
            batch_bytes_max: 4 * 1024 * 1024,
            batch_records_max: 1_024,
            batches_in_flight_max: 16,
            queued_bytes_max: 128 * 1024 * 1024,
            header_bytes_max: 16 * 1024,
            frame_bytes_max: 256 * 1024,
            stream_window_bytes: 4 * 1024 * 1024,
            connection_window_bytes: 8 * 1024 * 1024,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 10_000,
            pending_reset_streams_max: 20,
            error_reset_streams_max: 64,
            http_connections_max: 256,
        }
    }
}

/// A limit that lies outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{name} = {value} is outside {min} to {max}: choose a value in between")]
pub struct LimitError {
    /// The key in `[limits]`.
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The least that makes sense.
    pub min: u64,
    /// The most that the server can honour.
    pub max: u64,
}

impl Limits {
    /// Whether every limit lies in its range.
    pub fn check(&self) -> Result<(), LimitError> {
        const HOUR_MS: u64 = 3_600_000;
        const GIB: u64 = 1 << 30;
        let ranges = [
            ("connections_max", self.connections_max as u64, 1, 100_000),
            ("handshake_timeout_ms", self.handshake_timeout_ms, 10, HOUR_MS),
            ("request_timeout_ms", self.request_timeout_ms, 10, HOUR_MS),
            ("streams_per_connection_max", u64::from(self.streams_per_connection_max), 1, 100_000),
            ("calls_per_connection_max", self.calls_per_connection_max as u64, 1, 100_000),
            ("calls_in_flight_max", self.calls_in_flight_max as u64, 1, 1_000_000),
            // A record of 60 KiB must fit.
            ("batch_bytes_max", self.batch_bytes_max as u64, 128 * 1024, 64 * 1024 * 1024),
            ("batch_records_max", self.batch_records_max as u64, 1, 65_536),
            ("batches_in_flight_max", self.batches_in_flight_max as u64, 1, 4_096),
            // The largest batch must find room.
            (
                "queued_bytes_max",
                self.queued_bytes_max as u64,
                self.batch_bytes_max as u64,
                64 * GIB,
            ),
            ("header_bytes_max", u64::from(self.header_bytes_max), 4_096, 1 << 20),
            // RFC 9113, section 6.5.2: SETTINGS_MAX_FRAME_SIZE.
            ("frame_bytes_max", u64::from(self.frame_bytes_max), 16_384, 16_777_215),
            ("stream_window_bytes", u64::from(self.stream_window_bytes), 65_535, GIB),
            ("connection_window_bytes", u64::from(self.connection_window_bytes), 65_535, GIB),
            ("keepalive_interval_ms", self.keepalive_interval_ms, 100, HOUR_MS),
            ("keepalive_timeout_ms", self.keepalive_timeout_ms, 100, HOUR_MS),
            ("pending_reset_streams_max", self.pending_reset_streams_max as u64, 1, 10_000),
            ("error_reset_streams_max", self.error_reset_streams_max as u64, 1, 10_000),
            ("http_connections_max", self.http_connections_max as u64, 1, 100_000),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(LimitError { name, value, min, max });
            }
        }
        Ok(())
    }

    /// How long a handshake may take, and the preface after it.
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// Bytes that the decoder takes for one message: the larger of a batch and a policy's texts.
    /// That a batch keeps to its own limit is checked where it is read.
    pub fn message_bytes_max(&self) -> usize {
        self.batch_bytes_max.max(BLOB_BYTES_MAX).saturating_add(FRAMING_BYTES)
    }

    /// Bytes of one answer, so that the answer to every batch that is taken can be given.
    pub fn answer_bytes_max(&self) -> usize {
        self.message_bytes_max().max(self.batch_records_max.saturating_mul(ANSWER_BYTES_MAX))
    }

    /// Sets every limit that tonic and h2 know. (Message sizes are set on the service, connections
    /// and handshakes in the listener, calls in flight in the admission layer.)
    pub fn apply<L>(&self, server: Server<L>) -> Server<L> {
        server
            .timeout(Duration::from_millis(self.request_timeout_ms))
            .concurrency_limit_per_connection(self.calls_per_connection_max)
            .max_concurrent_streams(self.streams_per_connection_max)
            .initial_stream_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            // Windows that grow by themselves would not be a limit.
            .http2_adaptive_window(Some(false))
            .http2_keepalive_interval(Some(Duration::from_millis(self.keepalive_interval_ms)))
            .http2_keepalive_timeout(Some(Duration::from_millis(self.keepalive_timeout_ms)))
            .http2_max_pending_accept_reset_streams(Some(self.pending_reset_streams_max))
            .http2_max_local_error_reset_streams(Some(self.error_reset_streams_max))
            .http2_max_header_list_size(self.header_bytes_max)
            .max_frame_size(self.frame_bytes_max)
            .accept_http1(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_hold_a_blob() {
        let limits = Limits::default();
        assert_eq!(limits.check(), Ok(()));
        assert!(limits.message_bytes_max() > BLOB_BYTES_MAX);
        assert!(limits.message_bytes_max() > limits.batch_bytes_max);
    }

    #[test]
    fn a_limit_out_of_range_is_named() {
        let limits = Limits { frame_bytes_max: 1, ..Limits::default() };
        let error = limits.check().unwrap_err();
        assert_eq!((error.name, error.value, error.min), ("frame_bytes_max", 1, 16_384));
    }
}
