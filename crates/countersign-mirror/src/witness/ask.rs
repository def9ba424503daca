//! The other side of a witness: asking one for its cosignature of a head, as a log does.
//!
//! What a witness answers is believed as far as its key goes and no further: a line that is no
//! cosignature of this very head, by the key that was expected, is never handed on.

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Uri, header};
use countersign_core::codes::Code;
use countersign_core::encoding::{escaped, from_decimal};
use countersign_core::hash::{Hash, TreeSize};
use countersign_core::note::{SignedCheckpoint, VerifierKey};
use countersign_core::quorum::PolicyWitness;
use http_body_util::{BodyExt as _, Full, Limited};

use super::request::AddCheckpoint;
use crate::source::{Client, SourceError, chain, client_for};

/// Bytes of an answer that are read: a few cosignatures, or a sentence that says why not.
const ANSWER_BYTES_MAX: usize = 16 * 1_024;

/// Why a witness gave no cosignature. Texts are safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No answer, or one that says that it is out of order: it may be better in a while.
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    /// It cosigned another head last, of this size (409).
    #[error("it has cosigned {} entries", .0.0)]
    Holds(TreeSize),
    /// It is not convinced that this head continues the one that it cosigned last: no proof of it
    /// (422), or another tree of the same size (409 that names the size that was sent).
    #[error("it says that this head does not continue what it cosigned before")]
    Unproven,
    /// Another status: it does not know the log (404), or not its key (403), or the request is not
    /// of a form that it takes (400).
    #[error("it answered {0}")]
    Refused(u16),
    /// A success without a cosignature of this head by its key.
    #[error("its answer is no cosignature of this head by its key")]
    False,
}

/// A witness that can be asked.
#[derive(Clone, Debug)]
pub struct RemoteWitness {
    name: String,
    vkey: VerifierKey,
    url: String,
    uri: Uri,
    client: Client,
}

impl RemoteWitness {
    /// Of a line of a policy; none where the line has no URL.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub fn new(witness: &PolicyWitness) -> Result<Option<Self>, SourceError> {
        let Some(url) = &witness.url else { return Ok(None) };
        let (client, url) = client_for(url)?;
        let uri = format!("{url}/add-checkpoint");
        let uri = uri.parse().map_err(|_| SourceError::Url(escaped(&url)))?;
        let (name, vkey) = (witness.name.clone(), witness.vkey.clone());
        Ok(Some(Self { name, vkey, url, uri, client }))
    }

    /// Its name in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is asked.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks once: `proof` leads from the tree of `old` entries to `head`'s. Gives the verified line
    /// of its cosignature, newline included. How long that may take is the caller's to say.
    ///
    /// # Errors
    ///
    /// See [`AskError`].
    pub async fn add_checkpoint(
        &self,
        old: TreeSize,
        proof: &[Hash],
        head: &SignedCheckpoint,
    ) -> Result<String, AskError> {
        let body = AddCheckpoint::text(old, proof, head.as_str());
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(header::USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| AskError::Unreachable(escaped(&error.to_string())))?;
        let unreachable = |why: &str| AskError::Unreachable(escaped(why));
        let response = self.client.request(request).await;
        let response = response.map_err(|error| unreachable(&chain(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unreachable(&error.to_string()))?.to_bytes();
        match status {
            StatusCode::OK => self.cosignature(&body, head).ok_or(AskError::False),
            StatusCode::CONFLICT => match held_size(&body) {
                Some(size) if size != old => Err(AskError::Holds(size)),
                _ => Err(AskError::Unproven),
            },
            StatusCode::UNPROCESSABLE_ENTITY => Err(AskError::Unproven),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(unreachable(&format!("it answered {}", status.as_u16())))
            }
            _ => Err(AskError::Refused(status.as_u16())),
        }
    }

    /// COSI-2: the first line of its key. Lines of other keys are passed over, as in every note; one of its
    /// own key that fails spoils the answer.
    fn cosignature(&self, answer: &[u8], head: &SignedCheckpoint) -> Option<String> {
        let answer = std::str::from_utf8(answer).ok()?;
        for line in answer.split_inclusive('\n') {
            let note = format!("{}\n{line}", head.body());
            let note = SignedCheckpoint::parse(&note).ok()?;
            match note.cosigned_at(&self.vkey, Code::WitnessSignature) {
                Ok(Some(_)) => return Some(line.to_owned()),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// The body of a 409 that asks for another proof: a size and a newline.
fn held_size(body: &[u8]) -> Option<TreeSize> {
    let text = std::str::from_utf8(body).ok()?;
    from_decimal(text.strip_suffix('\n')?).map(TreeSize)
}
