//! COSI-8: a data folder that was put back from a copy is not signed on top of, as long as one
//! witness that can be asked has seen more.

use std::path::Path;
use std::process::Command;

use countersign_core::note::SignedCheckpoint;
use countersign_tests::http::get;
use countersign_tests::{Installation, await_until};

use crate::asked::{demand, log_vkey};
use crate::process::Folder;
use crate::stand_in::{Manner, StandIn};

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Waits until so many entries are under a head that the witness cosigned.
async fn witnessed(installation: &Installation, size: u64) {
    let addr = installation.ledger_http();
    await_until("a witnessed head", || {
        let note = SignedCheckpoint::parse(&get(addr, "/checkpoint")).unwrap();
        (note.size.0 >= size && note.as_str().contains("witness.example/w1")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_put_back_from_a_copy_are_not_signed_on_top_of() {
    let mut installation = Installation::new();
    let folder = Folder::of(&installation, "w1");
    let vkey = folder.init("witness.example/w1", &log_vkey(&installation));
    let process = folder.start(0).await;
    let stand_in = StandIn::new(Manner::HandOn(process.addr));
    demand(&installation, &format!("witness W1 {vkey} http://{}\nquorum W1\n", stand_in.addr));
    let (data, old, new) =
        (installation.dir().join("data"), installation.beside("old"), installation.beside("new"));

    installation.start_ledger().await;
    installation.submit(4, 0);
    witnessed(&installation, 5).await;
    installation.stop_ledger().await;
    copy(&data, &old);
    installation.start_ledger().await;
    installation.submit(4, 100);
    witnessed(&installation, 9).await;
    installation.stop_ledger().await;
    copy(&data, &new);

    // The whole folder from the copy, its anchor and its own newest head with it.
    copy(&old, &data);
    for more in [&[][..], &["--without-witnesses"]] {
        let said = installation.ledger_refuses(more);
        assert!(said.stderr.contains("WITNESS_AHEAD"), "{}", said.stderr);
        assert!(
            said.stderr.contains("witness W1: it says that it has cosigned"),
            "{}",
            said.stderr
        );
    }
    // What the ledger itself kept tells as much, when no witness can be asked.
    stand_in.be(Manner::Dead);
    copy(&new.join("witnessed"), &data.join("witnessed"));
    let said = installation.ledger_refuses(&["--without-witnesses"]);
    assert!(said.stderr.contains("WITNESS_AHEAD"), "{}", said.stderr);
    assert!(said.stderr.contains("/data/witnessed"), "{}", said.stderr);
    // Somebody forces it, and another history grows beyond the first.
    copy(&old, &data);
    let said = installation.ledger_refuses(&[]);
    assert!(said.stderr.contains("WITNESS_SILENT"), "{}", said.stderr);
    installation.start_ledger_with(&["--without-witnesses"]).await;
    // The gate would notice as well, had it not lost what it remembers.
    let memory = format!("{}/head.note", installation.identity("gate"));
    let remembered = std::fs::read(&memory).unwrap();
    std::fs::remove_file(&memory).unwrap();
    installation.submit(20, 200);
    std::fs::write(&memory, remembered).unwrap();
    installation.stop_ledger().await;
    stand_in.be(Manner::HandOn(process.addr));
    let said = installation.ledger_refuses(&["--without-witnesses"]);
    assert!(said.stderr.contains("WITNESS_FORK"), "{}", said.stderr);
    copy(&new.join("witnessed"), &data.join("witnessed"));
    stand_in.be(Manner::Dead);
    let said = installation.ledger_refuses(&["--without-witnesses"]);
    assert!(said.stderr.contains("WITNESS_FORK"), "{}", said.stderr);
    // A head that is none: nobody knows what was signed.
    let kept = std::fs::read_dir(data.join("witnessed")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&kept, "no head").unwrap();
    let said = installation.ledger_refuses(&["--without-witnesses"]);
    assert!(said.stderr.contains("can't be used"), "{}", said.stderr);

    // The newest data are as good as ever.
    stand_in.be(Manner::HandOn(process.addr));
    copy(&new, &data);
    installation.start_ledger().await;
    installation.submit(1, 300);
    witnessed(&installation, 10).await;
}
