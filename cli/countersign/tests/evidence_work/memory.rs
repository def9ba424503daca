//! A pack of thousands of records more takes next to no memory more, for whoever makes it and for
//! whoever verifies it.

use super::*;

/// Records of the small pack, and by how many the large one is larger.
const FEW: usize = 1_000;
const MORE: usize = 6_000;
/// Bytes that a record more may take. What is left of one is 40 bytes for its file in the manifest,
/// and what the lifecycle asks of it; what a program holds at all times is in both sizes.
const MAKING_MAX: u64 = 900;
const VERIFYING_MAX: u64 = 600;

/// Runs a command that must succeed; the most memory that it ever had, in bytes.
fn peak(mut command: Command) -> u64 {
    let said = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = said.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = wait_for("the command's end", || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) * 1024);
        child.try_wait().unwrap()
    });
    let mut said = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert!(ended.success() && most > 0, "{command:?}: {said}");
    most
}

/// Submits approvals of so many actions, each with a permit.
fn submit(house: &House, name: &str, actions: std::ops::Range<usize>) {
    let example: Value = serde_json::from_str(EXAMPLE.lines().next().unwrap()).unwrap();
    assert_eq!(example["outcome"], "approve");
    let line = |n: usize| {
        let mut verdict = example.clone();
        verdict["action_id"] = format!("01a1f6b0-0000-7000-8000-{n:012x}").into();
        verdict["permit"]["id"] = format!("01a1f6b0-0000-7001-8000-{n:012x}").into();
        verdict.to_string()
    };
    let file = house.beside(&format!("{name}.jsonl"));
    fs::write(&file, actions.map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let out = house.beside(name);
    let what = ["submit", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    house.expect(0, &what, "gate");
}

#[test]
fn memory_does_not_grow_with_a_packs_records() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_countersign"));
    let verifier = program.with_file_name("countersign-verify");
    assert!(verifier.is_file(), "build with --workspace, which makes the verifier as well");
    let house = House::new();
    let both = |name: &str| {
        let mut packing = countersign();
        packing.args(["pack", "--complete", "--server", &house.grpc, "--identity"]);
        packing.arg(house.identity("auditor")).arg("--out").arg(house.beside(name));
        let made = peak(packing);
        let mut verify = Command::new(&verifier);
        verify.arg("pack").arg(house.beside(name));
        verify.arg("--trust").arg(house.root().join("trust.toml"));
        (made, peak(verify))
    };
    submit(&house, "few", 0..FEW);
    let few = both("small");
    submit(&house, "more", FEW..FEW + MORE);
    let many = both("large");
    let grown = |few: u64, many: u64| many.saturating_sub(few) / MORE as u64;
    let (making, verifying) = (grown(few.0, many.0), grown(few.1, many.1));
    assert!(making <= MAKING_MAX, "making takes {making} bytes a record: {few:?}, {many:?}");
    assert!(verifying <= VERIFYING_MAX, "verifying takes {verifying} a record: {few:?}, {many:?}");
}
