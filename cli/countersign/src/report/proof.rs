//! The inclusion proof of one record as a picture: from its leaf to the root that the log signed.

use countersign_core::encoding::hex;
use countersign_core::hash::{Hash, LeafIndex, TreeSize};
use countersign_core::merkle::{LogTree, NodeHasher as _, leaf_hash};

use super::gather::Sample;
use super::page::Page;

/// Pixels of the drawing, which scales with the page.
const WIDTH: u64 = 340;
const LEVEL: u64 = 58;
const BOX_WIDTH: u64 = 150;
const BOX_HEIGHT: u64 = 34;

/// One level of the way: what it is joined with, on which side, and what comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joint {
    /// The hash that the proof gives.
    pub(super) sibling: Hash,
    /// Whether that hash is the left one.
    pub(super) sibling_left: bool,
    /// The node above both.
    pub(super) node: Hash,
}

/// The way from a leaf to the root (RFC 9162 section 2.1.3.2). It draws what was verified
/// elsewhere; it verifies nothing.
pub(super) fn way(index: LeafIndex, size: TreeSize, leaf: Hash, path: &[Hash]) -> Vec<Joint> {
    let (mut at, mut last) = (index.0, size.0.saturating_sub(1));
    let mut node = leaf;
    let mut joints = Vec::with_capacity(path.len());
    for sibling in path {
        let sibling_left = at & 1 == 1 || at == last;
        if sibling_left {
            // A lone node moves up unchanged until it has a sibling on its left.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
            node = LogTree::node(sibling, &node);
        } else {
            node = LogTree::node(&node, sibling);
        }
        at >>= 1;
        last >>= 1;
        joints.push(Joint { sibling: *sibling, sibling_left, node });
    }
    joints
}

/// The picture with its caption.
pub(super) fn draw(page: &mut Page, sample: &Sample) {
    let leaf = leaf_hash(&sample.entry).0;
    let head = &sample.receipt.checkpoint;
    let joints = way(sample.receipt.index, head.size, leaf, &sample.receipt.path);
    let levels = joints.len() as u64;
    let height = (levels + 1) * LEVEL + 10;
    page.raw("<figure>\n<svg role=\"img\" aria-label=\"Inclusion proof\" viewBox=\"0 0 ");
    page.number(WIDTH).raw(" ").number(height).raw("\">\n");
    // The leaf stands at the bottom, the root at the top.
    let top = |level: u64| (levels - level.min(levels)) * LEVEL + 6;
    for (level, joint) in (1..).zip(&joints) {
        let (own, other) = columns(joint.sibling_left);
        let below = top(level - 1);
        let meet = top(level) + BOX_HEIGHT;
        let next = joints.get(usize::try_from(level).unwrap_or(usize::MAX));
        let above = next.map_or(middle(), |next| columns(next.sibling_left).0);
        line(page, own + BOX_WIDTH / 2, below, above + BOX_WIDTH / 2, meet);
        line(page, other + BOX_WIDTH / 2, below, above + BOX_WIDTH / 2, meet);
        node(page, other, below, "given by the proof", &joint.sibling, "#ffffff");
    }
    let mut hash = leaf;
    for level in 0..=levels {
        let next = joints.get(usize::try_from(level).unwrap_or(usize::MAX));
        let column = next.map_or(middle(), |joint| columns(joint.sibling_left).0);
        let (label, fill) = match (level, next) {
            (_, None) => ("root, signed by the log", "#d9efdf"),
            (0, _) => ("leaf: this record's entry", "#fdf0cd"),
            _ => ("computed", "#eceff3"),
        };
        node(page, column, top(level), label, &hash, fill);
        if let Some(joint) = next {
            hash = joint.node;
        }
    }
    page.raw("</svg>\n<figcaption>")
        .text(&caption(sample, levels))
        .raw("</figcaption>\n</figure>\n");
}

fn caption(sample: &Sample, levels: u64) -> String {
    let head = &sample.receipt.checkpoint;
    format!(
        "The record at index {} among {} of {}. Its entry is hashed to the leaf (yellow). Each step \
         up joins it with one hash that the proof gives (white); after {levels} steps the result \
         (green) is {}. Were the record changed in one bit, the root would be another. First 16 of \
         64 digits of each hash are shown.",
        sample.index,
        head.size.0,
        head.origin,
        if levels == 0 { "the root itself" } else { "the root that the log signed" },
    )
}

/// Where the path's own node and its sibling stand.
fn columns(sibling_left: bool) -> (u64, u64) {
    let (left, right) = (8, WIDTH - BOX_WIDTH - 8);
    if sibling_left { (right, left) } else { (left, right) }
}

fn middle() -> u64 {
    (WIDTH - BOX_WIDTH) / 2
}

fn line(page: &mut Page, x1: u64, y1: u64, x2: u64, y2: u64) {
    page.raw("<line stroke=\"#454c55\" stroke-width=\"1.2\" x1=\"").number(x1);
    page.raw("\" y1=\"").number(y1).raw("\" x2=\"").number(x2).raw("\" y2=\"").number(y2);
    page.raw("\"/>\n");
}

fn node(page: &mut Page, x: u64, y: u64, label: &str, hash: &Hash, fill: &'static str) {
    let middle = x + BOX_WIDTH / 2;
    page.raw("<rect stroke=\"#16191d\" fill=\"").raw(fill).raw("\" x=\"").number(x);
    page.raw("\" y=\"").number(y).raw("\" width=\"").number(BOX_WIDTH);
    page.raw("\" height=\"").number(BOX_HEIGHT).raw("\"/>\n");
    for (text, down, style) in [
        (label, 13, "font-family=\"sans-serif\" font-size=\"10.5\""),
        (hex(hash).get(..16).unwrap_or_default(), 27, "font-family=\"monospace\" font-size=\"11\""),
    ] {
        page.raw("<text fill=\"#16191d\" text-anchor=\"middle\" ").raw(style).raw(" x=\"");
        page.number(middle).raw("\" y=\"").number(y + down).raw("\">").text(text);
        page.raw("</text>\n");
    }
}
