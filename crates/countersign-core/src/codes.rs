//! The one registry of codes: every fault that Countersign names, in files, over gRPC and on the
//! command line, with the sentence that says what is wrong and the one that says what to do.

use crate::cert::CertError;

/// A closed registry of stable texts: an enum of which each variant has its text, one sentence that
/// says what is wrong and one that says what to do about it.
///
/// The first line is the enum with its docs, then follows one line a variant.
#[macro_export]
macro_rules! registry {
    (
        $(#[$docs:meta])* pub enum $name:ident;
        $($variant:ident $text:literal $what:literal $remedy:literal;)*
    ) => {
        $(#[$docs])*
        // The sentences show placeholders such as <name>, which rustdoc takes for HTML.
        #[allow(rustdoc::invalid_html_tags)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $(
            #[doc = $what]
            $variant,
        )* }

        impl $name {
            /// All of them, in the order in which they are declared.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The text, as it is printed and recorded.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One sentence: what is wrong.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }

            /// One sentence: what to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

registry! {
    /// What is wrong. Codes are stable: scripts may match them.
    pub enum Code;

    // Texts and numbers.
    JsonMalformed "JSON_MALFORMED" "The text is not JSON as RFC 8259 has it." "Use the file as its maker wrote it; if that is this file, ask its maker for another.";
    JsonDuplicateKey "JSON_DUPLICATE_KEY" "A JSON object names one key twice, so that two readers may see two values." "Write each key once.";
    JsonTooDeep "JSON_TOO_DEEP" "The JSON nests more than 16 containers." "Flatten the value, or write its digest instead.";
    JsonShape "JSON_SHAPE" "A JSON value is not of the type that its place asks for." "Compare the value with the format's page in spec/.";
    MemberMissing "MEMBER_MISSING" "A member that must be present is missing." "Add it; where it doesn't apply, write null.";
    MemberUnknown "MEMBER_UNKNOWN" "An object has a member that the format does not know." "Remove it: closed lists are what makes every file readable in one way.";
    Base64 "BASE64" "A text is not base64 in its one canonical spelling, or has the wrong length." "Encode with the standard alphabet, padding and zero trailing bits.";
    NumberNotCanonical "NUMBER_NOT_CANONICAL" "An action's parameters hold a number that is no integer within 2^53 - 1." "Write such numbers as strings.";
    NameMalformed "NAME_MALFORMED" "A tenant's or gate's name is not 1 to 128 characters of A-Z a-z 0-9 . _ -." "Choose a name of these characters.";
    OriginMalformed "ORIGIN_MALFORMED" "A log's origin is not 1 to 255 printable ASCII characters without space and plus." "Use a schema-less URL such as ledger.example/prod.";
    KeyMalformed "KEY_MALFORMED" "An Ed25519 public key is not a canonical point, or one of small order." "Use a key made by an ordinary Ed25519 implementation.";

    // Records and seals.
    FieldCount "FIELD_COUNT" "The record has more or fewer fields than its kind has names." "Give every name of the kind exactly once, null where it doesn't apply.";
    FieldName "FIELD_NAME" "A field does not carry the name that belongs at its place." "Order the fields by their names in ascending byte order.";
    FieldSpelling "FIELD_SPELLING" "A field is not spelled [\"<salt>\",\"<name>\",<value>] with nothing between the parts." "Keep field bytes exactly as the gate made them.";
    FieldOversized "FIELD_OVERSIZED" "A field is larger than 16 KiB." "Put large values as {digest, length} in place of themselves.";
    RecordOversized "RECORD_OVERSIZED" "The fields of one record are larger than 60 KiB together." "Put large values as {digest, length} in place of themselves.";
    RecordRootMismatch "RECORD_ROOT_MISMATCH" "Two implementations of the record tree disagree about this record's root." "Do not seal it; report this as a defect.";
    KindUnknown "KIND_UNKNOWN" "The record is of a kind that this version does not know." "Use a newer version of this program.";
    TypeMismatch "TYPE_MISMATCH" "The record's type is not the kind that its entry names." "One of the two was changed after it was made; trust neither.";
    ValueShape "VALUE_SHAPE" "A value is not of the shape that its name asks for." "Compare it with spec/kinds.md.";
    ActionDigest "ACTION_DIGEST" "The action digest is not the one that the shown action gives." "The action or the digest was changed; trust neither.";
    ReasonsUnsorted "REASONS_UNSORTED" "The reasons are not sorted by policy." "Sort them before sealing, so that one decision has one spelling.";
    PermitInShadow "PERMIT_IN_SHADOW" "A verdict in shadow mode carries a permit." "A shadow verdict releases nothing: leave permit null.";
    PermitMisplaced "PERMIT_MISPLACED" "A verdict that is not an approve carries a permit." "Leave permit null unless the outcome is approve.";
    RequiresMisplaced "REQUIRES_MISPLACED" "A verdict that is not a supervise says what approvals it requires." "Leave requires null unless the outcome is supervise.";
    ApprovalsWithoutParent "APPROVALS_WITHOUT_PARENT" "A verdict lists approvals but names no supervised verdict that they answer." "Name the supervise verdict as parent.";
    OutcomeOrphan "OUTCOME_ORPHAN" "An outcome is an orphan exactly when it names no verdict, and this one contradicts itself." "Set match to orphan, or name the verdict.";
    SealSize "SEAL_SIZE" "A seal covers 1 to 65,536 records, and this one says otherwise." "Seal fewer records at once.";
    SealIndex "SEAL_INDEX" "The seal's index lies outside its batch." "Use the seal as its gate made it.";
    SealPath "SEAL_PATH" "The seal's path does not have the length that its index and size demand." "Use the seal as its gate made it.";
    SealSignature "SEAL_SIGNATURE" "The gate's signature does not cover this record." "The record, the seal or the key was changed after sealing; the gate did not say this.";

    // Entries, notes, receipts.
    EntryLength "ENTRY_LENGTH" "A log entry is not 66 bytes." "Use the entry as the ledger gave it.";
    EntryVersion "ENTRY_VERSION" "The log entry is of a version that this program does not know." "Use a newer version of this program.";
    EntryKind "ENTRY_KIND" "The log entry is of a kind that this program does not know." "Use a newer version of this program.";
    EntryStream "ENTRY_STREAM" "The entry's stream is not the record's." "The entry belongs to another record.";
    EntrySeq "ENTRY_SEQ" "The entry's sequence number is not the record's." "The entry belongs to another record.";
    EntrySealed "ENTRY_SEALED" "The entry does not commit to this record under this seal." "The entry belongs to another record or another seal.";
    NoteMalformed "NOTE_MALFORMED" "The signed note is not a text, one blank line and signature lines." "Use the note as the log published it.";
    NoteOversized "NOTE_OVERSIZED" "The signed note is larger than 64 KiB or has more than 64 signatures." "Use the note as the log published it.";
    NoteSignatureLine "NOTE_SIGNATURE_LINE" "A signature line of the note is not an em dash, a key name and base64." "Use the note as the log published it.";
    CheckpointLines "CHECKPOINT_LINES" "The checkpoint is not origin, size and root, a line each." "Use the checkpoint as the log published it.";
    VkeyMalformed "VKEY_MALFORMED" "The verifier key is not <name>+<8 hex>+<base64>." "Copy the whole vkey from its owner.";
    VkeyType "VKEY_TYPE" "The verifier key's type does not serve the purpose it is named for." "Logs and ledgers sign with type 1, clocks and witnesses with type 4.";
    VkeyId "VKEY_ID" "The verifier key's ID does not belong to its name and key." "Copy the whole vkey from its owner.";
    IndexOutOfRange "INDEX_OUT_OF_RANGE" "An index lies outside the tree." "Ask for an index smaller than the tree's size.";
    ProofLength "PROOF_LENGTH" "A proof has more or fewer hashes than index and size demand." "Use the proof as the log gave it.";
    InclusionRootMismatch "INCLUSION_ROOT_MISMATCH" "The inclusion proof does not lead to the checkpoint's root." "This entry is not in the log at this index; treat it as never logged.";
    ConsistencyMalformed "CONSISTENCY_MALFORMED" "The file is not a consistency proof of version 1." "Use the file as its maker wrote it.";
    ConsistencySizes "CONSISTENCY_SIZES" "The sizes of the heads and of the proof do not belong together." "Give the older head first, and the proof made for these two.";
    ConsistencyOrigins "CONSISTENCY_ORIGINS" "The two heads are of two logs." "Compare heads of one origin.";
    ConsistencyMismatch "CONSISTENCY_MISMATCH" "The older tree is not a prefix of the newer one by this proof." "If the proof is the log's own, its history was rewritten: keep both heads and alarm the tenant.";
    ReceiptMalformed "RECEIPT_MALFORMED" "The receipt is not a C2SP tlog-proof." "Use the receipt as the ledger gave it.";
    ReceiptExtra "RECEIPT_EXTRA" "The receipt has an extra line, which nothing would verify." "Remove the line.";
    VersionUnknown "VERSION_UNKNOWN" "The file is of a version that this program does not know." "Use a newer version of this program.";

    // Evidence.
    EvidenceMalformed "EVIDENCE_MALFORMED" "The file is not an evidence file." "Give a file made by countersign evidence or submit.";
    EvidenceOversized "EVIDENCE_OVERSIZED" "The evidence file is larger than 1 MiB." "Give one evidence file at a time.";
    PeopleChains "PEOPLE_CHAINS" "The file has more or fewer certificate chains than its kind of record asks for." "Approvals, policies, grants and erasures carry exactly one person's chain, others none.";
    SupportingNested "SUPPORTING_NESTED" "Supporting evidence has supporting evidence of its own, or there is too much of it." "Put what the record rests on directly into its supporting list.";
    SupportingDuplicate "SUPPORTING_DUPLICATE" "One record stands twice in the supporting evidence." "Give each supporting record once.";
    SupportingInvalid "SUPPORTING_INVALID" "A supporting record is invalid." "See its own finding.";
    SupportingUnrelated "SUPPORTING_UNRELATED" "The supporting evidence holds a record that this one does not rest on." "Remove it: only the parent verdict, the approvals, and the records that this one names stand there.";
    SupportingAbsent "SUPPORTING_ABSENT" "A record that this one rests on is not in the file." "Ask the ledger for the evidence again; it packs what a record rests on.";
    NeverWithheld "NEVER_WITHHELD" "The file withholds a field that is never withheld." "Ask for a file that shows it; until then nothing is certain.";
    NoTrust "NO_TRUST" "No trust file was given, and a key found inside the evidence proves nothing." "Give --trust with keys that you had from elsewhere.";
    TrustMalformed "TRUST_MALFORMED" "The trust file is not as spec/trust.md has it." "Compare it with the example there.";
    TrustKeyName "TRUST_KEY_NAME" "A clock's or ledger's key is not named <origin>/clock or <origin>/ledger." "Copy the vkeys of one log from its operator.";
    PolicyLine "POLICY_LINE" "A line of the witness policy is not as C2SP tlog-policy has it." "Mend the line that is named.";
    OriginUnknown "ORIGIN_UNKNOWN" "The receipt is of a log that the trust file does not name." "If you trust that log, add its vkey to the trust file.";
    LogSignature "LOG_SIGNATURE" "The log's signature on the checkpoint does not verify." "The checkpoint was changed or forged.";
    LogSignatureMissing "LOG_SIGNATURE_MISSING" "The checkpoint has no signature of a trusted key of its log." "If the log changed its key, get the new vkey from its operator.";
    LogNotInPolicy "LOG_NOT_IN_POLICY" "The witness policy lists logs, and this one's key is not among them." "Add the log to the policy, if you trust it.";
    ClockSignature "CLOCK_SIGNATURE" "The clock's cosignature on the checkpoint does not verify." "The checkpoint was changed or forged.";
    ClockAbsent "CLOCK_ABSENT" "The trust file names a clock, and the checkpoint has no cosignature of it." "Ask the ledger for a receipt under a head that its clock signed.";
    ClockBeforeEntry "CLOCK_BEFORE_ENTRY" "The clock's cosignature is older than the entry it covers." "The operator's word on time contradicts itself.";
    RecordedAhead "RECORDED_AHEAD" "The record's own time is further ahead of the ledger's than the skew allows." "Set the gate's clock right and seal again.";
    WitnessSignature "WITNESS_SIGNATURE" "A known witness's cosignature does not verify." "The checkpoint was changed or forged.";
    WitnessQuorum "WITNESS_QUORUM" "Fewer witnesses than the policy asks for cosigned this checkpoint." "Ask for a receipt at a witnessed head.";
    KeyRevoked "KEY_REVOKED" "A key that this rests on is revoked, and no witness quorum saw the record before that." "Ask for a receipt that witnesses cosigned before the revocation.";
    SealerUntrusted "SEALER_UNTRUSTED" "The sealing key's certificate does not name this tenant's gate, or another key." "Only the gate that the record names may seal it.";
    TenantUntrusted "TENANT_UNTRUSTED" "The record is of a tenant whose evidence this trust file does not accept." "Add the tenant to the trust file, if you verify for it.";
    GatesAbsent "GATES_ABSENT" "The trust file names no gates, so the sealer can't be checked." "Add a [gates] section.";
    PeopleAbsent "PEOPLE_ABSENT" "The trust file names no roots for people, so a signature can't be checked." "Add a [people] section.";
    LedgerKeysAbsent "LEDGER_KEYS_ABSENT" "The trust file names no ledger key, so the ledger's own records can't be checked." "Add ledger = [...] to the log's section.";
    LedgerKeyUnknown "LEDGER_KEY_UNKNOWN" "The ledger's own record is sealed by a key that the trust file does not name." "Get the ledger's vkey from its operator.";
    StreamDerivation "STREAM_DERIVATION" "The stream's name is not the one that origin, tenant, gate and key give." "The record was moved to another stream, or its gate renamed.";
    StreamKind "STREAM_KIND" "This kind of record may not stand in this stream." "The ledger's own kinds belong to stream zero, a gate's to its own.";
    GenesisPlace "GENESIS_PLACE" "A genesis record stands elsewhere than at index 0, or names another origin or key." "Trust no log that begins twice.";
    PersonSignature "PERSON_SIGNATURE" "The person's signature does not cover what the record says." "The person did not sign this.";
    PersonCertificate "PERSON_CERTIFICATE" "The person's certificate is not the one the record names, or names another person, tenant or role." "Use the certificate with which the person signed.";
    PersonUnchecked "PERSON_UNCHECKED" "What the person signed, or the signature, is withheld, so the signature can't be checked." "Ask for a file that shows it.";
    ParentOutcome "PARENT_OUTCOME" "The parent's outcome does not allow this verdict." "Only supervise leads to approve or refuse, and approve to refuse.";
    ParentMismatch "PARENT_MISMATCH" "Parent, approvals and verdict do not agree on origin, tenant, gate, mode or action." "They belong to different actions.";
    ParentOrder "PARENT_ORDER" "Parent, approvals and verdict do not stand in this order in the log." "An approval can't answer what came after it.";
    ApprovalDenied "APPROVAL_DENIED" "An approve rests on an approval that denies." "A denied action is refused.";
    ApprovalOtherVerdict "APPROVAL_OTHER_VERDICT" "An approval answers another verdict than the parent." "Approvals release the verdict they were shown, and no other.";
    ApprovalExpired "APPROVAL_EXPIRED" "An approval or the verdict came later than the approval or the supervision allowed." "Ask for approval again.";
    ApprovalSamePerson "APPROVAL_SAME_PERSON" "Two approvals come from one person or one key." "Each approval needs a person and a key of its own.";
    ApprovalsTooFew "APPROVALS_TOO_FEW" "Fewer approvals than the supervised verdict requires." "Collect the rest before the action is approved.";
    ApprovalRoles "APPROVAL_ROLES" "A role that the supervised verdict requires is not among the approvers'." "Ask somebody who has it.";
    ApprovalsWithheld "APPROVALS_WITHHELD" "What the approvals must satisfy is withheld or absent." "Ask for a file that shows it.";

    // Certificates.
    CertPem "CERT_PEM" "A certificate is not strict PEM: 64 columns, LF, one block." "Write it as RFC 7468 has it in its strict form.";
    CertMalformed "CERT_MALFORMED" "A certificate is not canonical DER of an X.509 v3 certificate." "Issue it again.";
    CertChain "CERT_CHAIN" "The certificate chain is not linear from its leaf to a trusted root." "Order it leaf first, each issued by the next.";
    CertUntrustedRoot "CERT_UNTRUSTED_ROOT" "The certificate chain does not end at a trusted root." "If you trust its root, add it to the trust file.";
    CertSignature "CERT_SIGNATURE" "A certificate's signature does not verify under its issuer." "The certificate was changed or forged.";
    CertExpired "CERT_EXPIRED" "A certificate had expired at that time." "Renew it and open a new stream under the new key.";
    CertNotYetValid "CERT_NOT_YET_VALID" "A certificate was not yet valid at that time." "Set the clocks right, or wait.";
    CertIssuer "CERT_ISSUER" "An issuer in the chain may not issue: CA, key cert sign or pathLen is missing." "Issue from a proper authority.";
    CertExtension "CERT_EXTENSION" "A certificate has a critical extension that this profile does not know, or one twice." "Issue it without.";
    CertIdentity "CERT_IDENTITY" "A certificate does not carry exactly one URI SAN spiffe://<trust domain>/tenant/<tenant>/<role>/<name>." "Issue it with this one URI; DNS names may stand beside it.";
    CertKey "CERT_KEY" "A key in the chain is of an algorithm or form that this profile does not take." "Leaves are Ed25519; issuers Ed25519, P-256 or P-384.";

    // The ledger.
    Unauthenticated "UNAUTHENTICATED" "The caller showed no client certificate of this ledger's trust domain." "Call with the identity that countersign init or your authority made.";
    PermissionDenied "PERMISSION_DENIED" "The caller's role may not do this." "Use an identity whose role may; see the table in spec/architecture.md.";
    OtherTenant "OTHER_TENANT" "The caller asked for what belongs to another tenant." "A tenant's records are its own; ask that tenant.";
    RequestMalformed "REQUEST_MALFORMED" "A field of the request is missing or has the wrong length." "Compare the request with proto/countersign/v1/ledger.proto.";
    BatchOversized "BATCH_OVERSIZED" "The batch has more records or bytes than this ledger takes at once." "Send smaller batches.";
    StreamUnknown "STREAM_UNKNOWN" "The stream was never opened in this log." "Open it with OpenStream first.";
    StreamForeign "STREAM_FOREIGN" "The stream belongs to another tenant, gate or key." "Write to the stream that OpenStream gave you.";
    StreamHalted "STREAM_HALTED" "An earlier record of this call was rejected, so those behind it were not looked at." "Seal again from the sequence number that was rejected.";
    SeqGap "SEQ_GAP" "The record's sequence number is not the next one of its stream." "Send what is missing first, or seal again from the expected number.";
    Equivocation "EQUIVOCATION" "The stream holds another record under this sequence number; the attempt was noted in the log." "What is logged stands. Find out which part of the gate sealed two records for one number.";
    PrevMismatch "PREV_MISMATCH" "The record's prev is not the root of the record before it." "Seal again with the root that the ledger holds.";
    RecordForeign "RECORD_FOREIGN" "The record names another tenant, gate, stream or sequence number than its call." "Seal a record that names its own place.";
    DuplicateVerdict "DUPLICATE_VERDICT" "This action has a first verdict already in this mode." "Name that verdict as parent, or use a new action_id.";
    ParentUnknown "PARENT_UNKNOWN" "The parent verdict is not in the log." "Log the parent first.";
    ParentAnswered "PARENT_ANSWERED" "The parent verdict has its one child already." "An action is resolved once; use a new action_id.";
    ApprovalUnknown "APPROVAL_UNKNOWN" "An approval that the verdict lists is not in the log." "Log the approvals first.";
    VerdictUnknown "VERDICT_UNKNOWN" "The verdict that this record answers is not in the log." "Log the verdict first.";
    ActionDenied "ACTION_DENIED" "A person denied this action, so it can't be approved." "Record a refuse.";
    VoidTooLate "VOID_TOO_LATE" "An approve can't be voided once its permit has expired or an outcome names it." "Reconcile the outcome instead.";
    PermitUsed "PERMIT_USED" "An outcome for this permit is in the log already." "Name it in supersedes, if this one corrects it.";
    PermitUnknown "PERMIT_UNKNOWN" "The outcome names a permit that its verdict did not release." "Report the outcome of the permit that the approve carries.";
    SupersedesUnknown "SUPERSEDES_UNKNOWN" "The outcome that this one supersedes is not in the log, or is superseded already." "Name the newest outcome of this permit.";
    PolicyUnknown "POLICY_UNKNOWN" "The verdict is not under a policy version that the log holds for its tenant." "Log the signed policy record first: countersign policy register does it. Only a refuse may name no policy.";
    ActionFull "ACTION_FULL" "This action has as many records as one action may have (256)." "Use a new action_id.";
    BlobUnknown "BLOB_UNKNOWN" "The policy's texts are not held under the digest that the record names." "Send them with PutBlob before the policy record.";
    BlobDigest "BLOB_DIGEST" "The blob's bytes are not those that its digest names." "Send the policy and schema that the digest was made from.";
    BlobOversized "BLOB_OVERSIZED" "The blob is larger than 4 MiB." "Split the policy set.";
    SizeUnknown "SIZE_UNKNOWN" "The log has not that many entries, or no head of that size was signed." "Ask for a size up to the newest head.";
    NotFound "NOT_FOUND" "The log holds no such record, or it is not yours to see." "Check the action_id or index, and the identity you call with.";
    Erased "ERASED" "The record's payload was erased; its entry and proofs remain." "Only the fields that are never erased can still be shown.";
    Overloaded "OVERLOADED" "The ledger has as much work waiting as it takes." "Wait as long as the answer says and send the same again.";
    EvidenceUnavailable "EVIDENCE_UNAVAILABLE" "The ledger can't say whether this was logged." "Treat it as refused, and send the same record again: the answer will be the first one.";
    LedgerPoisoned "LEDGER_POISONED" "A write failed and the ledger takes nothing more until it is restarted." "Look at its log, mend the disk, start it again.";
    LedgerStopping "LEDGER_STOPPING" "The ledger is stopping." "Send the same again when it is back.";
    Internal "INTERNAL" "The ledger failed in a way that it has no name for." "Look at the ledger's log; nothing unproven was answered.";

    // The gate service.
    GateStopping "GATE_STOPPING" "The gate is stopping." "Ask the same again when it is back; nothing was approved.";
    ActionRepeated "ACTION_REPEATED" "This action_id was judged already, for another intent or another caller." "Repeat a call with the very same intent, or use a new action_id.";
    NotSupervised "NOT_SUPERVISED" "The action waits for nobody's approval: it was answered already, or never supervised." "Ask the gate for the action's state; there is nothing to approve or deny.";
    ApprovalDisplay "APPROVAL_DISPLAY" "The approval is of another text than the one that the gate shows for this action." "Show the person the text that spec/policy.md makes of the supervise, and sign that.";
    ApprovalNotEligible "APPROVAL_NOT_ELIGIBLE" "The policy does not let this person answer this action." "Ask somebody whom the policy lets approve it; who asked for an action may not.";
    ApprovalReplayed "APPROVAL_REPLAYED" "An approval with this nonce was taken already." "Sign a new approval with a nonce of its own.";
    PermitReplayed "PERMIT_REPLAYED" "Another effect was reported for this permit already; this one is logged as an orphan." "Use a permit once, and find out who acted twice.";
    PolicyInvalid "POLICY_INVALID" "The policy set or its schema does not pass the lint." "Mend every fault that is named; countersign policy lint finds them without a gate.";
    PolicyVersionTaken "POLICY_VERSION_TAKEN" "This version of the policy is another text already, and stays it." "Give the new text a version of its own.";
    GrantMalformed "GRANT_MALFORMED" "The grant's terms are not as spec/policy.md has them." "Compare them with GRT-1 there.";
    GrantLate "GRANT_LATE" "The grant is for a session that has asked for something already." "Issue grants before their session starts; begin a new session.";
    GrantExists "GRANT_EXISTS" "A grant of this id is held already, and grants are never changed." "Use a new grant_id.";

    // Store and start.
    StoreFailed "STORE_FAILED" "The store failed to read or write." "Look at the disk; the ledger's log says which call failed.";
    StoreCorrupt "STORE_CORRUPT" "What the store returned is not what was written." "Restore from a backup, and compare with a mirror before serving.";
    StoreLocked "STORE_LOCKED" "Another process has this data directory open." "Stop it first: one ledger writes one log.";
    LogAbsent "LOG_ABSENT" "The data folder holds no log, and nothing says that one is to begin there." "Check data_dir: a log that was moved must not begin anew. For a new log run countersign init, which leaves the file data/begin.";
    AnchorMissing "ANCHOR_MISSING" "The database has entries, but the anchor beside it is missing." "Put the anchor back, or restore both together.";
    AnchorCorrupt "ANCHOR_CORRUPT" "Neither slot of the anchor can be read." "Restore the anchor with the database, from one backup.";
    AnchorAhead "ANCHOR_AHEAD" "The database is smaller than its anchor: acknowledged entries are gone." "Do not serve from it; restore the newest database.";
    AnchorDiffers "ANCHOR_DIFFERS" "The database holds another history than its anchor." "Do not serve from it; restore the database that belongs to this anchor.";
    NotWitnessed "NOT_WITNESSED" "No head that enough witnesses cosigned covers this record yet." "Ask again in a few seconds; /metrics of the ledger (countersign_cosign_*) and its log say which witnesses don't answer.";
    WitnessAhead "WITNESS_AHEAD" "A witness has cosigned a larger tree of this log than the one that is here: the data are older than what was signed." "Do not sign on top of them: put the newest copy of the data folder back. If the witness is wrong, take it out of the witness policy.";
    WitnessFork "WITNESS_FORK" "A witness has cosigned another history of this log than the one that is here." "Do not sign on top of it: find the copy of the data folder that the witness knows. If the witness is wrong, take it out of the witness policy.";
    WitnessSilent "WITNESS_SILENT" "Too few witnesses answered at the start to tell whether these are the newest data." "Start again when they can be reached; if these data were not put back from a copy, start with --without-witnesses.";
    ConfigInvalid "CONFIG_INVALID" "The configuration has an unknown key or a value out of range." "Mend the key that is named; countersign config show prints what is in force.";

    // Packs.
    LifecycleWithheld "LIFECYCLE_WITHHELD" "A value that the order of an action's records rests on is withheld." "Ask for a pack that shows it; until then this rule is not checked.";
    LifecycleOutside "LIFECYCLE_OUTSIDE" "A record that this one answers is not in the pack." "Ask for a pack that has it too; until then this rule is not checked.";
    PackManifest "PACK_MANIFEST" "The manifest is not as spec/pack.md has it, or is not in its one spelling." "Use the pack as its maker wrote it.";
    PackOversized "PACK_OVERSIZED" "The pack has more files or bytes than a pack may have." "Ask for several packs, each over a part of the log.";
    PackPath "PACK_PATH" "The manifest names a file that a pack has no place for." "Use the pack as its maker wrote it.";
    PackUnlisted "PACK_UNLISTED" "The folder holds a file that the manifest does not list." "Remove it, or ask for the pack again: what is not listed was not claimed by anybody.";
    PackFileMissing "PACK_FILE_MISSING" "A file that the manifest lists is not in the folder." "Ask for the pack again, whole.";
    PackFileKind "PACK_FILE_KIND" "Something in the folder is no plain file or folder, or not where a pack has one." "Remove links, pipes and devices: a pack holds plain files only.";
    PackFileHash "PACK_FILE_HASH" "A file is not the one that the manifest lists under its name." "The file was changed after the pack was made; ask for the pack again.";
    PackHeadMissing "PACK_HEAD_MISSING" "A head that the manifest or a proof names is not in the pack." "Ask for the pack again, with heads/<size>.note.";
    PackHeadName "PACK_HEAD_NAME" "A head is of another log or size than the manifest and its file's name say." "Use the pack as its maker wrote it.";
    PackHeadUnjoined "PACK_HEAD_UNJOINED" "A head is not joined to the pack's head by consistency proofs." "Ask for the missing proof; if the log can't give it, its history was rewritten.";
    PackProofName "PACK_PROOF_NAME" "A consistency proof is of other sizes than its file's name says." "Use the pack as its maker wrote it.";
    PackEvidenceName "PACK_EVIDENCE_NAME" "A record's index in the log is not the one that its file is named by." "The file was renamed or put in another's place; ask for the pack again.";
    PackReceiptHead "PACK_RECEIPT_HEAD" "A receipt leads to a tree head that is not one of the pack's." "Ask for the evidence under one of the pack's heads; a head of that size with another root proves a fork.";
    PackNotAsked "PACK_NOT_ASKED" "A record does not match what the manifest says was asked for." "Ask for the pack again; its maker added or changed something.";
    PackForeign "PACK_FOREIGN" "A record belongs to another tenant, or to a gate that the pack does not claim." "Ask for the pack again; it mixes what does not belong together.";
    PackCertificate "PACK_CERTIFICATE" "A certificate's file is not named by the SHA-256 of its DER." "Use the pack as its maker wrote it.";
    PackTimeOrder "PACK_TIME_ORDER" "An entry is dated before one that stands in front of it in the log." "The ledger backdated it: keep the pack as proof, and alarm the tenant.";
    PackSeqGap "PACK_SEQ_GAP" "A stream's sequence number is skipped: a record is missing." "The record was dropped or hidden; ask the gate and the ledger for it.";
    PackSeqRepeated "PACK_SEQ_REPEATED" "A stream goes back to a sequence number that it had: a record stands twice, out of order, or beside another one of its number." "The ledger duplicated, reordered or forked the stream: keep the pack as proof, and alarm the tenant.";
    PackPrev "PACK_PREV" "A record does not name the record before it in its stream." "The stream was forked or a record replaced: keep the pack as proof, and alarm the tenant.";
    PackBeginningUnshown "PACK_BEGINNING_UNSHOWN" "The record before a stream's first one in the range is not in the pack, so nothing shows that none was left out where the range begins." "Ask for the pack with the last record of each of its streams before the range, or for one from the log's beginning.";
    PackStreamUnopened "PACK_STREAM_UNOPENED" "A stream has a record, and no record of the ledger opens the stream before it." "The ledger hid whose stream it is: keep the pack as proof, and alarm the tenant.";
    PackStreamUnshown "PACK_STREAM_UNSHOWN" "A stream has records in the range, or was opened there, and the pack does not show whose it is." "It may be another tenant's. If nobody else uses the log, a key of your own is not claimed: ask the ledger's operator whose it is.";
    PackClaims "PACK_CLAIMS" "The pack claims a range or keys without the files that prove it, or has those files without a claim." "Ask for the pack again, as a complete one.";
    PackEntriesLength "PACK_ENTRIES_LENGTH" "The entries are not as many as lie between the two heads." "Ask for the pack again, with every entry of the range.";
    PackPeaksRoot "PACK_PEAKS_ROOT" "The peaks do not lead to the root of the head that the range begins at." "Ask for the pack again; these peaks are another tree's.";
    PackEntriesRoot "PACK_ENTRIES_ROOT" "Peaks and entries do not lead to the root of the head that the range ends at." "An entry was left out, added or changed; ask for the pack again.";
    PackEntryDiffers "PACK_ENTRY_DIFFERS" "A record's entry is not the one that the log has at its index." "The record is not what the log holds there; treat it as never logged.";
    PackRecordWithheld "PACK_RECORD_WITHHELD" "The log has an entry of a claimed key, and the pack has no evidence for it." "A record was held back: ask for a pack that has it.";
    PackKeyUnseen "PACK_KEY_UNSEEN" "A claimed key has no record in the range, and nothing in the pack shows that a stream was ever opened with it." "Check the key. If it is right, ask for the pack with the opening of its stream; of a key that nobody used, no refusals says nothing.";
    PackMatchWithheld "PACK_MATCH_WITHHELD" "Whether a record is one of those that were asked for can't be told: the value that would tell is withheld or erased." "Ask for a pack that shows it; what was erased nobody can tell any more.";
    PackEntryUnread "PACK_ENTRY_UNREAD" "An entry is of a version or kind that this program does not know, so whose it is can't be said." "Use a newer version of this program.";
    PackEmpty "PACK_EMPTY" "The pack holds no evidence and claims nothing, so nothing was verified." "Ask for a pack of what you want to know, or a complete one.";
    GateSilent "GATE_SILENT" "A gate was silent at the pack's end for longer than the interval of its heartbeats." "Find out whether the gate was stopped, cut off, or had its records held back.";
    GatePromiseWithheld "GATE_PROMISE_WITHHELD" "A notice by which a gate may have promised to be heard is withheld in part, so whether the gate fell silent after it can't be told." "Ask for a pack that shows the notice's about and detail.";
    WithholdNever "WITHHOLD_NEVER" "This name is never withheld: without it the record could not be placed." "Leave it out of what is to be withheld.";
    WithholdUnknown "WITHHOLD_UNKNOWN" "No record in the file has a field of this name, or shows it." "Use the names in spec/kinds.md.";

    // The client.
    HeadRollback "HEAD_ROLLBACK" "The ledger showed a smaller tree than it showed before." "Keep both heads, with when you saw each. Tell the tenant and stop relying on this ledger.";
    HeadFork "HEAD_FORK" "The ledger showed a tree that does not continue the one it showed before." "Keep both heads: this proves a fork. Tell the tenant and stop relying on this ledger.";
    HeadTime "HEAD_TIME" "A head of the log is larger than the one before, and its clock says an earlier time." "Keep both heads and ask the operator which clock was wrong; the tenant's mirror stops until somebody has looked.";
    LogTimes "LOG_TIMES" "The log dates an entry before one that stands in front of it." "Keep the alarm: no honest log does that. Tell the tenant and stop relying on this ledger.";
    LogNumbers "LOG_NUMBERS" "A stream of the log skips a number, or has one twice." "Keep the alarm: a record was left out or logged twice. Tell the tenant and stop relying on this ledger.";
    PrivateBranch "PRIVATE_BRANCH" "A head that the log signed for somebody is not continued by the heads that it publishes." "Keep both heads: somebody was shown a log of their own. Tell the tenant and stop relying on this ledger.";
    SplitView "SPLIT_VIEW" "The log showed two mirrors two histories." "Keep both mirrors and the alarm. Tell the tenant and stop relying on this ledger.";
    MirrorStopped "MIRROR_STOPPED" "Following of this log was stopped because of what was found." "Read the file stopped and the alarm it names. Once that is settled, remove the file stopped to go on.";
    MirrorHeld "MIRROR_HELD" "What the mirror holds is not a head of this log under this trust file." "Put back what was there, or name the trust file it was made under; without its last head a mirror could be led onto another history.";
    AnswerMismatch "ANSWER_MISMATCH" "The ledger's answer is not about what was sent." "Treat the records as not logged and send them again.";
    Unreachable "UNREACHABLE" "The ledger could not be reached in time." "Check address and identity; countersign doctor says which part fails.";
    LineMalformed "LINE_MALFORMED" "A line of the input is not a verdict as spec/kinds.md has it." "Mend the line that is named.";

    // Alarms.
    AlarmMalformed "ALARM_MALFORMED" "The file is not an alarm as spec/alarm.md has it, or is not in its one spelling." "Use the alarm as its maker wrote it.";
    AlarmOversized "ALARM_OVERSIZED" "The alarm is larger than 8 MiB." "Use the alarm as its maker wrote it.";
    AlarmNoFork "ALARM_NO_FORK" "The two heads are of different sizes, or have the same root." "They are no fork, and prove nothing; to show that a larger head does not continue a smaller one, make a rewrite alarm.";
    AlarmHashes "ALARM_HASHES" "The hashes do not lead to the root of the head that they are said to be of." "They are of another tree, and prove nothing about this one; ask the alarm's maker for another.";
    AlarmJoined "ALARM_JOINED" "The hashes show that the larger head continues the smaller one." "That is as it should be, and the alarm is false.";
    AlarmTimes "ALARM_TIMES" "The times of the two entries do not decrease." "That is as it should be, and the alarm is false.";
    AlarmNumbers "ALARM_NUMBERS" "The sequence numbers that are shown may all be right." "An honest log may have them, and the alarm is false.";

    // Mirrors.
    MirrorEmpty "MIRROR_EMPTY" "The folder holds no head that could be verified, so nothing was." "Name the folder of a mirror, which holds <hex SHA-256 of the origin>/ with a checkpoint.";
    MirrorOrigin "MIRROR_ORIGIN" "The folder is not named by the SHA-256 of its log's origin." "Rename it, if you know whose log it is; otherwise mirror the log again.";
    MirrorHeadName "MIRROR_HEAD_NAME" "A head is of another log or size than its folder and its file's name say." "The file was renamed or put in another's place; remove it.";
    MirrorHeadRoot "MIRROR_HEAD_ROOT" "A signed head has another root than the mirror's entries give at its size." "Where no tile or bundle is at fault, the log signed two histories: keep everything, and alarm the tenant.";
    MirrorHeadUnproven "MIRROR_HEAD_UNPROVEN" "A head's tree can't be recomputed, since files of it are missing or damaged." "Get the files that are named; until then this head is not verified.";
    MirrorHeadMissing "MIRROR_HEAD_MISSING" "The checkpoint's head is not among the heads." "Run countersign mirror again; it writes every head before the checkpoint.";
    MirrorCheckpoint "MIRROR_CHECKPOINT" "The checkpoint is missing, or is not the largest of the heads." "Following was interrupted: run countersign mirror again, which ends what it began.";
    MirrorFileMissing "MIRROR_FILE_MISSING" "A tile or a bundle of entries is missing." "Get it from the log or another mirror, under the same path; until then the mirror is not whole.";
    MirrorFileKind "MIRROR_FILE_KIND" "Something in the mirror is no plain file or folder where one belongs." "Remove links, pipes and devices: a mirror holds plain files only.";
    MirrorTile "MIRROR_TILE" "A tile of hashes is not the one that the entries give." "The copy was altered or is damaged: get the tile from the log or another mirror.";
    MirrorBundle "MIRROR_BUNDLE" "A bundle of entries does not hash to its tile, or is not whole." "The copy was altered or is damaged: get the bundle from the log or another mirror.";
    MirrorTimeOrder "MIRROR_TIME_ORDER" "An entry is dated before one that stands in front of it in the log." "The log backdated it: keep the mirror as proof, and alarm the tenant.";
    MirrorSeqGap "MIRROR_SEQ_GAP" "A stream's sequence number is skipped: a record is missing." "The record was dropped or hidden: keep the mirror as proof, and ask gate and ledger for it.";
    MirrorSeqRepeated "MIRROR_SEQ_REPEATED" "A stream goes back to a sequence number that it had." "The log duplicated, reordered or forked the stream: keep the mirror as proof, and alarm the tenant.";
    MirrorEntryUnread "MIRROR_ENTRY_UNREAD" "An entry is of a length, version or kind that this program does not know, so neither its stream nor its time is checked." "Use a newer version of this program; another log's entries it can't judge.";
    MirrorStreams "MIRROR_STREAMS" "The log has more streams than this program follows (1,048,576), so those beyond are not checked." "Find out who opens so many.";
    MirrorForeign "MIRROR_FOREIGN" "A file has no place in a mirror of this size." "It may be left from a run that was interrupted; nothing was read from it.";
    MirrorAlarm "MIRROR_ALARM" "An alarm beside the mirror proves that the log misbehaved." "This is not the only history that the log showed: countersign-verify alarm says what it did.";
    MirrorState "MIRROR_STATE" "The file of --resume is damaged, or none that this program wrote." "Remove it: the mirror is then verified from its beginning.";
    MirrorResume "MIRROR_RESUME" "The mirror was changed in the part that an earlier run verified." "Verify it again from its beginning, without --resume or with a new file.";

    // Queries and erasure.
    QueryMalformed "QUERY_MALFORMED" "The query names an unknown field, a value that no record can have, an empty window, or too much." "Compare it with the fields and limits of proto/countersign/v1/ledger.proto.";
    CursorMalformed "CURSOR_MALFORMED" "The cursor lies outside the log as of the page's size, or comes without a size." "Give cursor and size back as the page before named them.";
    ReindexNeeded "REINDEX_NEEDED" "The derived indexes of this data folder are unfinished: their rebuild was interrupted." "Run countersign reindex --dir DIR to its end, with the ledger stopped.";
    ErasureOpen "ERASURE_OPEN" "A record to be erased belongs to an action that is still open." "Resolve or void it first, or wait until its permit has ended.";
    ErasureKind "ERASURE_KIND" "A record to be erased is of a kind that can't be erased, or of the ledger itself." "Erase grants, intents, verdicts, approvals and outcomes only.";
    ErasureFloor "ERASURE_FLOOR" "The reason states no retention floor, or one that does not allow this erasure." "End it with the line `retention floor: <time>`: past, as old as this ledger's retention asks, and later than every record named.";
    ErasureOversized "ERASURE_OVERSIZED" "The erasure names more records than one erasure takes (1,024)." "Erase them in several parts.";
}

impl Code {
    /// The code with this text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// The fault with the field or member at fault.
    pub fn at_field(self, name: &'static str) -> Fault {
        Fault { code: self, culprit: Culprit::Field(name) }
    }

    /// The fault with the index, line or place at fault.
    pub fn at_index(self, index: u64) -> Fault {
        Fault { code: self, culprit: Culprit::Index(index) }
    }
}

/// What exactly is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// The code says it all.
    Whole,
    /// A field or member.
    Field(&'static str),
    /// An index, a line number, a place in a chain.
    Index(u64),
}

/// A code and its culprit. Small, comparable, and holds no text from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What is wrong.
    pub code: Code,
    /// With what.
    pub culprit: Culprit,
}

impl Fault {
    /// Names the field, unless a culprit is named already.
    #[must_use]
    pub fn in_field(self, name: &'static str) -> Self {
        match self.culprit {
            Culprit::Whole => self.code.at_field(name),
            _ => self,
        }
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self { code, culprit: Culprit::Whole }
    }
}

impl From<CertError> for Fault {
    fn from(error: CertError) -> Self {
        let code = Code::from_text(error.code()).unwrap_or(Code::CertMalformed);
        error.place().map_or(code.into(), |place| code.at_index(place as u64))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.culprit {
            Culprit::Whole => f.write_str(self.code.as_str())?,
            Culprit::Field(name) => write!(f, "{} ({name})", self.code.as_str())?,
            Culprit::Index(index) => write!(f, "{} (at {index})", self.code.as_str())?,
        }
        write!(f, ": {} {}", self.code.what(), self.code.remedy())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_say_something() {
        let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        assert!(texts.is_sorted_by(|a, b| a < b), "a code stands twice");
        for code in Code::ALL {
            assert_eq!(Code::from_text(code.as_str()), Some(*code));
            assert!(code.what().ends_with('.') && code.remedy().ends_with('.'), "{code:?}");
        }
    }
}
