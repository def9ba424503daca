"""The packages aics-tlog and aics-witness (PyPI) as a program that the tests run.

    read URL VKEY CLOCK-VKEY: opens a log's checkpoint, audits every tile and bundle, and proves
      every entry and many smaller trees
    make DIR ORIGIN SIZE...: a log of its own, with a head, a consistency proof and tiles of each size
    feed URL WITNESS-VKEY ORIGIN SIZE...: has a witness cosign that log's heads, and what it must
      refuse; prints what came of each

It ends with an error at the first thing that does not hold.
"""

import base64
import pathlib
import sys

import aics_tlog as tlog
from aics_tlog.checkpoint import checkpoint_from_note
from aics_witness import feeder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY = Ed25519PrivateKey.from_private_bytes(bytes([7] * 32))


def check(holds, what):
    if not holds:
        raise SystemExit(what)


def read(url, vkey, clock):
    reader = tlog.HttpTileReader(url, proxies={})
    head, note = checkpoint_from_note(reader.read_checkpoint())
    # To this package the clock is a witness like any other.
    said = tlog.verify_checkpoint(
        note, tlog.parse_vkey(vkey), [tlog.parse_vkey(clock)], 1, expected_origin=head.origin
    )
    check(said.ok, said.error)
    report = tlog.audit_tiles(reader, head.size, head.root)
    tiles = tlog.VerifiedTileReader(reader, head.size, head.root)
    for index in range(head.size):
        proof = tlog.inclusion_proof_from_tiles(tiles, index, head.size)
        entry = tiles.entry(index)
        proved = tlog.verify_leaf_inclusion(entry, index, head.size, proof, head.root)
        check(proved, f"entry {index}")
    for old in range(1, head.size + 1):
        root = tlog.tree_root_from_tiles(tiles, old, head.size)
        proof = tlog.consistency_proof_from_tiles(tiles, old, head.size)
        check(tlog.verify_consistency(old, head.size, root, head.root, proof), f"tree {old}")
        forged = bytes([root[0] ^ 1]) + root[1:]
        forged = tlog.verify_consistency(old, head.size, forged, head.root, proof)
        check(not forged, f"tree {old}: another root passes")
    check(report.size == head.size, "the audit is of another size")
    root = base64.b64encode(head.root).decode()
    print(head.size, root, head.size, head.size)


class Log:
    """A log in memory. Entries have any length, and are not this project's."""

    def __init__(self, origin, word="record"):
        self.origin, self.word = origin, word
        self.tree = tlog.MerkleTree()
        self.key = tlog.vkey_from_ed25519(origin, KEY.public_key())

    def grow(self, size):
        numbers = range(self.tree.size, size)
        more = [f"{self.word} {n} of {self.origin}{'!' * (n % 30)}".encode() for n in numbers]
        self.tree.extend(more)
        return more

    def head(self, size, extension=()):
        head = tlog.Checkpoint(self.origin, size, self.tree.root(size), tuple(extension))
        return tlog.sign_checkpoint(head, KEY, self.origin).to_bytes()


def make(folder, origin, sizes):
    folder = pathlib.Path(folder)
    log = Log(origin)
    for name in ("heads", "proofs"):
        (folder / name).mkdir(parents=True)
    store = tlog.DirectoryTileStore(folder / "tiles")
    writer = tlog.IncrementalTileWriter(store)
    for size in map(int, sizes):
        old = log.tree.size
        writer.append(log.grow(size))
        check(writer.root() == log.tree.root(), "the package disagrees with itself")
        store.write_checkpoint(log.head(size))
        (folder / "heads" / f"{size:020}.note").write_bytes(log.head(size))
        if old:
            proof = log.tree.consistency_proof(old, size)
            lines = [base64.b64encode(one).decode() + "\n" for one in proof]
            (folder / "proofs" / f"{old}-{size}").write_text("".join(lines))
    (folder / "vkey").write_text(tlog.format_vkey(log.key))


def fails(client, kind, note, proof, **more):
    try:
        client.submit(note, proof, **more)
    except kind as error:
        return str(getattr(error, "status", kind.__name__))
    raise SystemExit(f"no {kind.__name__}")


def feed(url, vkey, origin, sizes):
    sizes = [int(size) for size in sizes]
    log, fork = Log(origin), Log(origin, "forged")
    said = []
    # The second client knows nothing, and learns the size from the conflict.
    for size in sizes:
        log.grow(size)
        with feeder.WitnessClient(url, vkey) as client:
            for _ in range(2):
                line = client.submit(log.head(size), log.tree.consistency_proof)
                merged = feeder.merge_cosignatures(log.head(size), line)
                quorum = tlog.verify_checkpoint(
                    tlog.parse_note(merged), log.key, [tlog.parse_vkey(vkey)], 1, max_age_seconds=60
                )
                check(quorum.ok, quorum.error)
                said.append("cosigned")
    size = sizes[-1]
    fork.grow(size + 5)
    with feeder.WitnessClient(url, vkey) as client:
        rejected = feeder.WitnessRejected
        said.append(fails(client, rejected, fork.head(size), fork.tree.consistency_proof))
        proof = fork.tree.consistency_proof
        said.append(fails(client, rejected, fork.head(size + 5), proof))
        other = Log(origin + "/unknown")
        other.grow(3)
        said.append(fails(client, rejected, other.head(3), other.tree.consistency_proof))
        ahead = feeder.WitnessAhead
        said.append(fails(client, ahead, log.head(sizes[0]), log.tree.consistency_proof))
    print(" ".join(said))


def main(what, *words):
    if what == "read":
        read(*words)
    elif what == "make":
        make(words[0], words[1], words[2:])
    elif what == "feed":
        feed(words[0], words[1], words[2], words[3:])
    else:
        raise SystemExit(__doc__)


main(*sys.argv[1:])
