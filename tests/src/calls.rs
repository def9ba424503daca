//! Calls, and the check of everything that the ledger answers.

use countersign_core::codes::Code;
use countersign_core::entry::Entry;
use countersign_core::hash::{RecordRoot, TreeSize};
use countersign_core::merkle::verify_consistency;
use countersign_core::note::SignedCheckpoint;
use countersign_core::receipt::{ConsistencyProof, Receipt};
use countersign_core::seal::Seal;
use countersign_proto::convert::{AcceptedRecord, BatchAnswer, RecordRef, Submission};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::ledger_service_client::LedgerServiceClient;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::gate;
use crate::pki::Holder;
use crate::process::Server;
use crate::stage::Stage;

/// A client of the ledger.
pub type Client = LedgerServiceClient<Channel>;

/// Bytes of an answer that the clients here take.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A record that the ledger has proved to be in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The record's root.
    pub root: RecordRoot,
    /// Its entry.
    pub entry: Entry,
    /// The seal under which it was logged.
    pub seal: Seal,
    /// The proof.
    pub receipt: Receipt,
    /// Whether it was in the log before.
    pub repeat: bool,
}

/// The ledger's refusal in a status; panics where the status is another's.
pub fn refusal(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not the ledger's word: {status:?}"))
}

impl Stage {
    /// A connected client with this certificate, or with none.
    pub async fn connect_as(
        &self,
        server: &Server,
        holder: Option<&Holder>,
    ) -> Result<Client, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(&self.server_ca.pem));
        if let Some(holder) = holder {
            tls = tls.identity(Identity::from_pem(&holder.cert_pem, &holder.key_pem));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc)).unwrap();
        let channel = endpoint.tls_config(tls)?.connect().await?;
        Ok(LedgerServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// A connected client with a certificate that the ledger takes.
    pub async fn connect(&self, server: &Server, holder: &Holder) -> Client {
        self.connect_as(server, Some(holder)).await.unwrap()
    }

    /// A head, if the log has signed it and its clock has cosigned it.
    pub fn head(&self, note: &str) -> SignedCheckpoint {
        let head = SignedCheckpoint::parse(note).unwrap();
        head.verify_log(&self.log_vkey).unwrap();
        self.clock_seconds(&head);
        head
    }

    /// The time of the clock's cosignature, seconds since the epoch.
    pub fn clock_seconds(&self, head: &SignedCheckpoint) -> u64 {
        head.cosigned_at(&self.clock_vkey, Code::ClockSignature).unwrap().unwrap().0
    }

    /// The newest head.
    pub async fn newest(&self, client: &mut Client) -> SignedCheckpoint {
        let head = client.get_head(v1::GetHeadRequest::default()).await.unwrap().into_inner();
        let checkpoint = self.head(&head.checkpoint);
        assert_eq!(checkpoint.size, TreeSize(head.size));
        checkpoint
    }

    /// Panics unless the ledger proves that `old` is a prefix of `new`.
    pub async fn assert_continues(
        &self,
        client: &mut Client,
        old: &SignedCheckpoint,
        new: &SignedCheckpoint,
    ) {
        let request = v1::GetConsistencyRequest { old_size: old.size.0, new_size: new.size.0 };
        let proof = client.get_consistency(request).await.unwrap().into_inner();
        let proof = ConsistencyProof::try_from(proof).unwrap();
        assert_eq!((proof.old_size, proof.new_size), (old.size, new.size));
        verify_consistency(old.size, new.size, &old.root, &new.root, &proof.hashes).unwrap();
    }

    /// A record's receipt at a head of at least `min_size`, proved for this entry.
    pub async fn receipt(
        &self,
        client: &mut Client,
        entry: &Entry,
        min_size: TreeSize,
    ) -> Result<Receipt, Status> {
        let which = Some(RecordRef::StreamSeq(entry.stream, entry.seq).into());
        let request = v1::GetReceiptRequest { which, min_size: min_size.0, ..Default::default() };
        let text = client.get_receipt(request).await?.into_inner().receipt;
        let receipt = Receipt::parse(&text).unwrap();
        self.head(receipt.checkpoint.as_str());
        assert!(receipt.checkpoint.size >= min_size);
        receipt.verify(&entry.leaf()).unwrap();
        Ok(receipt)
    }

    /// Checks an answer in all its parts: what it accepts is proved to be in the log, under a seal
    /// of the gate and as the record that was sent.
    pub fn check(
        &self,
        submission: &Submission,
        answer: BatchAnswer,
    ) -> Result<Vec<Result<Held, Refusal>>, Refusal> {
        let BatchAnswer { checkpoint, outcome, .. } = answer;
        let answers = outcome?;
        assert_eq!(answers.len(), submission.records.len(), "one answer a record");
        let mut held = Vec::with_capacity(answers.len());
        let mut new = false;
        for (place, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.seq, submission.first_seq + place as u64, "in order");
            held.push(answer.outcome.map(|accepted| {
                new |= !accepted.repeat;
                self.check_one(submission, place, &checkpoint, accepted)
            }));
        }
        assert_eq!(new, !checkpoint.is_empty(), "a head exactly where something is new");
        Ok(held)
    }

    fn check_one(
        &self,
        submission: &Submission,
        place: usize,
        checkpoint: &str,
        accepted: AcceptedRecord,
    ) -> Held {
        let AcceptedRecord { index, entry, path, first_seal, checkpoint: first, repeat } = accepted;
        let root = submission.sealed.roots[place];
        assert!(
            repeat || (first_seal.is_none() && first.is_none()),
            "a first that is not a repeat"
        );
        let submitted = submission.sealed.seal_of(u32::try_from(place).unwrap()).unwrap();
        let seal = first_seal.unwrap_or(submitted);
        seal.verify(&root).unwrap();
        assert_eq!(seal.key, submission.sealed.key);
        assert_eq!(entry.stream, submission.stream);
        assert_eq!(entry.seq, submission.first_seq + place as u64);
        assert_eq!(entry.kind, submission.records[place].record.kind());
        assert_eq!(entry.sealed, seal.sealed(&root));
        let checkpoint = self.head(first.as_deref().unwrap_or(checkpoint));
        let receipt = Receipt { index, path, checkpoint };
        receipt.verify(&entry.leaf()).unwrap();
        Held { root, entry, seal, receipt, repeat }
    }
}

/// Submits one batch and checks the answer. The outer error is about the whole batch.
pub async fn submit(
    stage: &Stage,
    client: &mut Client,
    submission: &Submission,
) -> Result<Vec<Result<Held, Refusal>>, Refusal> {
    let answer = client.submit(gate::request(submission, 7)).await;
    let answer = answer.map_err(|status| refusal(&status))?.into_inner();
    let answer = BatchAnswer::try_from(answer).unwrap();
    assert_eq!(answer.call_id, 7);
    stage.check(submission, answer)
}
