//! Why no answer came, in a sentence with its remedy.
//!
//! The transport's own errors are chains of types that print each other's insides. What is said
//! here comes from the innermost one that tells something, and never from a debug print.

use std::error::Error;
use std::io;
use std::time::Duration;

use countersign_core::encoding::escaped;
use countersign_proto::errors::Refusal;
use rustls::{AlertDescription, CertificateError};
use tonic::Status;

use crate::error::ClientError;

/// Causes that are followed: the transport nests about six.
const CAUSES_MAX: usize = 16;

/// Said of whatever breaks the protocol.
const NOT_A_LEDGER: &str = "what answers at this address does not speak as a ledger's gRPC port \
     does. Check the port, and give host:port for a ledger with TLS, or http://host:port for one \
     that serves with --insecure-dev";

/// Said of a connection that ended early. An alert about the caller's certificate may be lost when
/// the connection goes with it.
const CLOSED: &str = "the connection was closed before an answer came. Look whether the ledger \
     still runs, whether this is its gRPC port (host:port with TLS, http://host:port if it serves \
     with --insecure-dev), and whether an authority in its client_roots issued the identity's \
     certificate";
/// How the HTTP library tells that the connection ended under a call.
const CANCELED: &str = "operation was canceled";

/// How rustls tells an alert. In TLS 1.3 the ledger looks at the caller's certificate when its own
/// part of the handshake is over, so that an alert then is about that.
const ALERT: &str = "received fatal alert: ";
/// The one of them that can be mended by renewing.
const EXPIRED_ALERT: &str = "received fatal alert: CertificateExpired";

/// Reads a status: a refusal by the ledger, or else a failure on the way.
pub(crate) fn from_status(status: &Status) -> ClientError {
    if let Some(refusal) = Refusal::from_status(status) {
        return ClientError::Refused(refusal);
    }
    // A status with a cause was made here, of an error of the transport; one without came from
    // whoever answers.
    let detail = match status.source() {
        Some(source) => why(source),
        None => format!(
            "what answers at this address gave a status that no ledger gives ({}: {}). Check \
             that this is a ledger's gRPC port, and any proxy in between",
            status.code().description(),
            status.message()
        ),
    };
    unreachable(&detail)
}

/// No connection was made.
pub(crate) fn not_connected(error: &tonic::transport::Error) -> ClientError {
    unreachable(&why(error))
}

/// No answer came in time.
pub(crate) fn timed_out(after: Duration) -> ClientError {
    unreachable(&format!(
        "none came within {} ms. Look whether the ledger is running and not overloaded, and try \
         again",
        after.as_millis()
    ))
}

fn unreachable(detail: &str) -> ClientError {
    ClientError::Unreachable { detail: escaped(detail) }
}

/// The sentence for an error of the transport, without its full stop.
fn why(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next.filter(|_| causes.len() < CAUSES_MAX) {
        causes.push(error);
        // What an I/O error wraps is not among its causes, but is what matters.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    let tls = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        return of_tls(tls);
    }
    if causes.iter().any(|cause| cause.to_string().starts_with("dns error")) {
        return "the host name is not known. Check its spelling, and this machine's name service"
            .to_owned();
    }
    if causes.iter().any(|cause| cause.to_string() == CANCELED) {
        return CLOSED.to_owned();
    }
    let io = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.map_or_else(|| NOT_A_LEDGER.to_owned(), of_io)
}

fn of_io(error: &io::Error) -> String {
    use io::ErrorKind;

    let said = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "the connection was refused: nothing listens at this address. Start the ledger \
             (countersign serve), or check host and port"
        }
        ErrorKind::TimedOut => {
            "no connection was made in time. Check host and port, and any firewall in between"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "no way leads to this address. Check the address and this machine's network"
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => CLOSED,
        // HTTP/2 keeps of an alert that came after the handshake only its text.
        _ if error.to_string() == EXPIRED_ALERT => {
            return of_alert(AlertDescription::CertificateExpired);
        }
        _ if error.to_string().starts_with(ALERT) => {
            return of_alert(AlertDescription::AccessDenied);
        }
        _ if error.raw_os_error().is_some() => {
            return format!("the connection failed: {error}. Check the address and the network");
        }
        _ => NOT_A_LEDGER,
    };
    said.to_owned()
}

fn of_tls(error: &rustls::Error) -> String {
    use CertificateError as Bad;

    match error {
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            format!("no TLS is spoken there; {NOT_A_LEDGER}")
        }
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer | Bad::BadSignature => {
                "TLS failed: the server's certificate is not of a trusted root. Give the roots of \
                 this ledger's server certificate (ca.pem in the identity's folder)"
                    .to_owned()
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "TLS failed: the server's certificate does not bear the name that was called. Call \
                 it by a name of its certificate, or say server_name in identity.toml"
                    .to_owned()
            }
            Bad::Expired | Bad::ExpiredContext { .. } => {
                "TLS failed: the server's certificate has expired. Have the operator renew it, and \
                 look at this machine's clock"
                    .to_owned()
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "TLS failed: the server's certificate is not yet valid. Look at this machine's \
                 clock"
                    .to_owned()
            }
            _ => format!(
                "TLS failed: {error}. Have the operator look at the ledger's server certificate"
            ),
        },
        _ => format!("TLS failed: {error}. Look at the certificates and keys of both sides"),
    }
}

/// The ledger speaks TLS and did not go on, nearly always because of who called.
fn of_alert(alert: AlertDescription) -> String {
    let said = match alert {
        AlertDescription::CertificateExpired => {
            "the ledger did not accept the identity's certificate: it has expired. Have it renewed"
        }
        AlertDescription::CertificateRequired
        | AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            "the ledger did not accept the identity's certificate. Call with an identity that an \
             authority in the ledger's client_roots issued"
        }
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::NoApplicationProtocol => {
            "TLS failed: both sides speak, but not the same. A ledger speaks TLS 1.3 and HTTP/2; \
             check the port, and any proxy in between"
        }
        _ => "TLS failed: the other side ended it. Look at the ledger's own log for the reason",
    };
    said.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(inner: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
        io::Error::other(inner)
    }

    #[test]
    fn the_innermost_cause_that_tells_something_is_told() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(why(&io(io(unknown))).contains("not of a trusted root"));
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert!(why(&io(expired)).contains("server's certificate has expired"));
        let no_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert!(why(&io(no_tls)).contains("no TLS is spoken there"));
        let refused = io(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(why(&refused).contains("connection was refused"));
        // As HTTP/2 gives it on, and as rustls has it, which must stay the same text.
        for (alert, said) in [
            (AlertDescription::CertificateExpired, "it has expired"),
            (AlertDescription::UnknownCA, "client_roots"),
        ] {
            let error = rustls::Error::AlertReceived(alert);
            assert!(why(&io(error.to_string())).contains(said));
            assert!(why(&io(error)).contains(said));
        }
        assert_eq!(why(&io(CANCELED)), CLOSED);
        assert_eq!(why(&io("anything else")), NOT_A_LEDGER);
    }

    #[test]
    fn a_strange_status_is_told_without_its_insides() {
        let status = Status::unimplemented("no\u{202e}such");
        let said = from_status(&status).to_string();
        assert!(said.contains("a status that no ledger gives") && said.contains("no\\u{202e}such"));
    }
}
