//! The programs that others' code is made into.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Where Debian puts Go's packages.
const DEBIAN_GO: &str = "/usr/share/gocode";

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign")
}

/// The folder of this test's own program, below which others' are built.
fn builds() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().join("foreign");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A program with the arguments that every call begins with; none where it can't be had here.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    program: PathBuf,
    first: Vec<PathBuf>,
}

impl Tool {
    /// golang.org/x/mod's sumdb packages.
    pub(crate) fn go() -> Option<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        found(BUILT.get_or_init(build_go)).map(|program| Self { program, first: Vec::new() })
    }

    /// The crates signed_note, tlog_tiles and sigsum.
    pub(crate) fn rust() -> Option<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        found(BUILT.get_or_init(build_rust)).map(|program| Self { program, first: Vec::new() })
    }

    /// The packages aics-tlog and aics-witness.
    pub(crate) fn python() -> Option<Self> {
        let program = python_with("aics_tlog, aics_witness")?;
        Some(Self { program, first: vec![here().join("python/foreign.py")] })
    }

    /// A witness that others wrote: the package aics-witness.
    pub(crate) fn python_witness() -> Option<Self> {
        let program = python_with("aics_witness")?;
        Some(Self { program, first: vec!["-m".into(), "aics_witness".into()] })
    }

    /// A web server that knows files and nothing else.
    pub(crate) fn web_server() -> Option<Self> {
        let first = ["-u", "-m", "http.server"].map(PathBuf::from).to_vec();
        Some(Self { program: python_with("http.server")?, first })
    }

    /// curl.
    pub(crate) fn curl() -> Option<Self> {
        let asked = Command::new("curl").arg("--version").output();
        if asked.is_err() {
            println!("not run: curl is not on PATH");
            return None;
        }
        let first = ["-q", "--silent", "--show-error", "--fail", "--noproxy", "*"];
        Some(Self { program: "curl".into(), first: first.map(PathBuf::from).to_vec() })
    }

    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.first).args(arguments).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it; it must succeed, and what it says is given.
    pub(crate) fn says(&self, arguments: &[impl AsRef<OsStr>]) -> String {
        let said = self.output(arguments);
        assert!(said.status.success(), "{}: {}", self.program.display(), text(&said.stderr));
        text(&said.stdout).to_owned()
    }

    /// Runs it; it must fail, and say this.
    pub(crate) fn refuses(&self, arguments: &[impl AsRef<OsStr>], why: &str) {
        let said = self.output(arguments);
        let speech = text(&said.stderr);
        assert!(!said.status.success(), "{}: {}", self.program.display(), text(&said.stdout));
        assert!(speech.contains(why), "{why:?} in {speech}");
    }
}

fn found(built: &Result<PathBuf, String>) -> Option<PathBuf> {
    match built {
        Ok(program) => Some(program.clone()),
        Err(why) => {
            println!("not run: {why}");
            None
        }
    }
}

/// The program, or why it can't be had. That its source doesn't compile is a fault.
fn build_go() -> Result<PathBuf, String> {
    let program = builds().join("countersign-foreign-go");
    let mut command = Command::new("go");
    // Without modules: nothing is fetched, and packages are those that the system has.
    command.args(["build", "-o"]).arg(&program).current_dir(here().join("go"));
    command.env("GO111MODULE", "off").env_remove("GOFLAGS");
    if Path::new(DEBIAN_GO).is_dir() {
        command.env("GOPATH", DEBIAN_GO);
    }
    let Ok(built) = command.output() else {
        return Err("go is not on PATH (Debian: golang-go)".to_owned());
    };
    let said = text(&built.stderr);
    if said.contains("cannot find package") {
        return Err("golang.org/x/mod is not there (Debian: golang-golang-x-mod-dev)".to_owned());
    }
    assert!(built.status.success(), "{said}");
    Ok(program)
}

fn build_rust() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--offline", "--locked", "--manifest-path"]);
    command.arg(here().join("rust/Cargo.toml")).arg("--target-dir").arg(builds());
    let Ok(built) = command.output() else {
        return Err("cargo is not on PATH".to_owned());
    };
    let said = text(&built.stderr);
    if !built.status.success() && said.contains("--offline") {
        return Err("signed_note, tlog_tiles and sigsum are not there (`cargo fetch --locked \
                    --manifest-path tests/foreign/rust/Cargo.toml`)"
            .to_owned());
    }
    assert!(built.status.success(), "{said}");
    Ok(builds().join("debug/countersign-foreign"))
}

/// A Python on PATH that has these modules.
fn python_with(modules: &str) -> Option<PathBuf> {
    let import = format!("import {modules}");
    let has = |python: &&&str| {
        let asked = Command::new(python).args(["-c", &import]).output();
        asked.is_ok_and(|said| said.status.success())
    };
    let pythons = ["python3", "python3.14", "python3.13", "python3.12"];
    let python = pythons.iter().find(has);
    if python.is_none() {
        println!("not run: no python3 on PATH has {modules} (PyPI: aics-tlog, aics-witness)");
    }
    python.map(PathBuf::from)
}
