//! README.txt of a pack: what it is, and how to verify it on a machine without a network.

use countersign_core::encoding::escaped;
use countersign_core::pack::{Listing, PackFile};

use crate::report::{Subject, asked, commands, telling};

/// Columns that a line has at most.
const COLUMNS: usize = 78;

/// The text. Like all of a pack it depends on nothing but log, question and head.
pub(super) fn text(subject: &Subject<'_>, files: &Listing) -> String {
    let mut out = String::new();
    let mut paragraph = |text: &str| {
        wrapped(&mut out, &escaped(text));
        out.push('\n');
    };
    paragraph(&format!("EVIDENCE OF {} IN THE LOG {}", subject.tenant, subject.origin));
    paragraph(&asked(subject));
    let told = telling(subject.gathered);
    if !told.is_empty() {
        paragraph(&format!("Records that were not asked for are there in a reduced form.{told}"));
    }
    paragraph(&format!(
        "Everything is proven under the log's head of {} records. report.html says what it comes to: \
         the first page for a reader who is no engineer, the annex for one who checks.",
        subject.head.size
    ));
    paragraph(
        "To verify it, on a machine without any network, you need the program countersign-verify and \
         a trust file, trust.toml with the roots that it names. Take both from somebody whom you \
         trust, by another way than this pack: a key found in here proves nothing. Keep them outside \
         of this folder, here beside it: a file that the manifest does not list makes the pack \
         INVALID, and so do files that a computer adds by itself (.DS_Store, Thumbs.db). Then, in \
         this folder:",
    );
    for command in commands(subject) {
        out.push_str("    ");
        out.push_str(&escaped(&command));
        out.push('\n');
    }
    out.push('\n');
    let mut paragraph = |text: &str| {
        wrapped(&mut out, text);
        out.push('\n');
    };
    paragraph(
        "The first gives the number that identifies the pack: compare it with the one that you were \
         told. The second verifies everything; its last line is RESULT VALID, RESULT INVALID or \
         RESULT INDETERMINATE. The third checks one record by itself.",
    );
    out.push_str(
        "manifest.json   what was asked, what is claimed, the SHA-256 of every other file\n",
    );
    for (is_there, line) in FILES {
        if files.iter().any(|(file, _)| is_there(&file)) {
            out.push_str(line);
        }
    }
    out.push_str("report.html     the report\n");
    out
}

/// What may be in a pack, and how it is told of where it is.
type Line = (fn(&PackFile) -> bool, &'static str);

const FILES: [Line; 7] = [
    (
        |file| matches!(file, PackFile::Evidence(_)),
        "evidence/       a file for each record, by its index in the log\n",
    ),
    (
        |file| matches!(file, PackFile::Head(_)),
        "heads/          the log's heads, signed notes by their size\n",
    ),
    (
        |file| matches!(file, PackFile::Consistency(..)),
        "consistency/    proofs that an older head's log is contained in a newer one's\n",
    ),
    (
        |file| matches!(file, PackFile::Policy(_)),
        "policies/       the rules that decisions name, by their digest, where the ledger\n\
         \x20               holds their texts: length, policy, length, schema\n",
    ),
    (
        |file| matches!(file, PackFile::Certificate(_)),
        "certificates/   the certificates of gates and people, by their SHA-256\n",
    ),
    (
        |file| matches!(file, PackFile::Entries),
        "entries.bin     every entry of the log in the range claimed, 66 bytes each\n",
    ),
    (
        |file| matches!(file, PackFile::Peaks),
        "peaks.bin       what the entries before the range come to, 32 bytes each hash\n",
    ),
];

fn wrapped(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > COLUMNS {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}
