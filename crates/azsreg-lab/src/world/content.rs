//! What is in the marketplace's blobs, made when it is asked for and kept nowhere: disks of any size out of one tile,
//! packages that a zip reader opens, icons that a browser shows.
//!
//! A disk is a fixed VHD (its footer is true), a package a zip with one stored member (its CRC is true), so that readers
//! that we did not write can say whether a copy is whole.

use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Patterns repeat nothing within this many bytes, and begin each with its own number.
const BLOCK: u64 = 1 << 20;
/// A piece of a stream has this many bytes at most.
const PIECE: u64 = 256 << 10;

/// A part of a blob.
#[derive(Debug, Clone)]
enum Segment {
    Bytes(Bytes),
    Pattern { key: u64, length: u64 },
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pattern { length, .. } => *length,
        }
    }
}

/// The content of a blob.
#[derive(Debug, Clone)]
pub struct Content {
    segments: Vec<Segment>,
    length: u64,
}

impl Content {
    fn of(segments: Vec<Segment>) -> Self {
        let length = segments.iter().map(Segment::length).sum();
        Self { segments, length }
    }

    /// These very bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::of(vec![Segment::Bytes(bytes.into())])
    }

    /// A fixed VHD of a disk of this many bytes (a multiple of 1 MiB is what Azure takes); 512 bytes longer than that.
    #[must_use]
    pub fn vhd(seed: u64, path: &str, size: u64) -> Self {
        let key = key(seed, path);
        Self::of(vec![Segment::Pattern { key, length: size }, Segment::Bytes(footer(key, size).into())])
    }

    /// A zip with one stored member of this many bytes.
    #[must_use]
    pub fn zip(seed: u64, path: &str, member: &str, size: u64) -> Self {
        Self::zipped(member, Self::of(vec![Segment::Pattern { key: key(seed, path), length: size }]))
    }

    /// A zip with one stored member of these bytes.
    #[must_use]
    pub fn zip_of(member: &str, bytes: Vec<u8>) -> Self {
        Self::zipped(member, Self::bytes(bytes))
    }

    fn zipped(member: &str, data: Self) -> Self {
        let mut crc = crc32fast::Hasher::new();
        data.pieces(0, data.length).for_each(|piece| crc.update(&piece));
        // PKWARE APPNOTE 4.3.7, 4.3.12, 4.3.16: method 0, no flags, sizes below 4 GiB.
        let size = u32::try_from(data.length).unwrap_or(u32::MAX).to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x58];
        common.extend(crc.finalize().to_le_bytes());
        common.extend(size);
        common.extend(size);
        common.extend(u16::try_from(member.len()).unwrap_or(0).to_le_bytes());
        common.extend([0, 0]);
        let head: Vec<u8> = [b"PK\x03\x04", &common[..], member.as_bytes()].concat();
        let entry: Vec<u8> = [b"PK\x01\x02\x14\x00", &common[..], &[0; 14], member.as_bytes()].concat();
        let at = u32::try_from(head.len() as u64 + data.length).unwrap_or(u32::MAX);
        let mut tail = entry.clone();
        tail.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
        tail.extend(u32::try_from(entry.len()).unwrap_or(0).to_le_bytes());
        tail.extend(at.to_le_bytes());
        tail.extend([0, 0]);
        let mut segments = vec![Segment::Bytes(head.into())];
        segments.extend(data.segments);
        segments.push(Segment::Bytes(tail.into()));
        Self::of(segments)
    }

    /// A PNG of one colour with a lighter square in it; the colour is the path's.
    #[must_use]
    pub fn icon(path: &str, width: u32, height: u32) -> Self {
        // The same for all sizes of one item's icons.
        let item = path.rsplit_once('/').map_or(path, |(item, _)| item);
        let colour = key(0, item).to_le_bytes();
        let dark = [colour[0] / 2 + 32, colour[1] / 2 + 32, colour[2] / 2 + 32];
        let light = dark.map(|c| c / 2 + 127);
        let side = width.min(height) / 3;
        let inside = |x: u32, y: u32| x.abs_diff(width / 2) < side / 2 && y.abs_diff(height / 2) < side / 2;
        let mut rows = Vec::new();
        for y in 0..height {
            rows.push(0);
            rows.extend((0..width).map(|x| u8::from(inside(x, y))));
        }
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |name: &[u8; 4], data: &[u8]| {
            png.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
            let body = [&name[..], data].concat();
            png.extend(&body);
            png.extend(crc32fast::hash(&body).to_be_bytes());
        };
        chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 3, 0, 0, 0]].concat());
        chunk(b"PLTE", &[dark, light].concat());
        chunk(b"IDAT", &stored(&rows));
        chunk(b"IEND", &[]);
        Self::bytes(png)
    }

    /// How many bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `from` to before `to`, in pieces.
    pub fn pieces(&self, from: u64, to: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
        let (segments, mut at) = (self.segments.clone(), from.min(self.length));
        let to = to.min(self.length);
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let mut begin = 0;
            let segment = segments.iter().find(|segment| {
                let within = at < begin + segment.length();
                if !within {
                    begin += segment.length();
                }
                within
            })?;
            let (inside, left) = (at - begin, to - at);
            let piece = match segment {
                Segment::Bytes(bytes) => {
                    let end = (bytes.len() as u64).min(inside + left.min(PIECE));
                    bytes.slice(usize_of(inside)..usize_of(end))
                }
                Segment::Pattern { key, length } => pattern(*key, inside, left.min(length - inside)),
            };
            at += piece.len() as u64;
            Some(piece)
        })
    }
}

fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// What makes a path's bytes its own.
fn key(seed: u64, path: &str) -> u64 {
    let digest = Sha256::digest(format!("{seed}|{path}"));
    digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// One block of noise: every pattern is cut from it, so that gigabytes cost no more than to send them.
fn tile() -> &'static Bytes {
    static TILE: OnceLock<Bytes> = OnceLock::new();
    TILE.get_or_init(|| (0..BLOCK / 8).flat_map(|n| mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect())
}

/// A piece of a pattern from an offset on: each block is its number, then the tile from a place of its own on.
fn pattern(key: u64, offset: u64, most: u64) -> Bytes {
    const HEAD: u64 = 16;
    let (number, inside) = (offset / BLOCK, offset % BLOCK);
    if inside < HEAD {
        let head: Vec<u8> = [key.to_le_bytes(), mix(key ^ number).to_le_bytes()].concat();
        return Bytes::from(head).slice(usize_of(inside)..usize_of(HEAD.min(inside + most)));
    }
    let begin = (mix(key.wrapping_add(number)) + inside - HEAD) % BLOCK;
    let length = most.min(PIECE).min(BLOCK - inside).min(BLOCK - begin);
    tile().slice(usize_of(begin)..usize_of(begin + length))
}

/// The footer of a fixed VHD ("Virtual Hard Disk Image Format Specification", Hard Disk Footer Format).
fn footer(key: u64, size: u64) -> Vec<u8> {
    let mut footer = b"conectix".to_vec();
    footer.extend(2u32.to_be_bytes());
    footer.extend(0x0001_0000u32.to_be_bytes());
    footer.extend(u64::MAX.to_be_bytes());
    footer.extend(0u32.to_be_bytes());
    footer.extend(b"win \0\x0a\0\0Wi2k");
    footer.extend(size.to_be_bytes());
    footer.extend(size.to_be_bytes());
    let (cylinders, heads, sectors) = geometry(size / 512);
    footer.extend(cylinders.to_be_bytes());
    footer.extend([heads, sectors]);
    footer.extend(2u32.to_be_bytes());
    let at = footer.len();
    footer.extend(0u32.to_be_bytes());
    footer.extend(key.to_be_bytes());
    footer.extend(mix(key).to_be_bytes());
    footer.resize(512, 0);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// Cylinders, heads and sectors, as that specification's appendix computes them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let total = sectors.min(65_535 * 16 * 255);
    let (per_track, heads, by_heads);
    if total >= 65_535 * 16 * 63 {
        (per_track, heads, by_heads) = (255, 16, total / 255);
    } else {
        let mut track = 17;
        let mut cylinders = total / track;
        let mut tried = cylinders.div_ceil(1024).max(4);
        if cylinders >= tried * 1024 || tried > 16 {
            (track, tried) = (31, 16);
            cylinders = total / track;
        }
        if cylinders >= tried * 1024 {
            (track, tried) = (63, 16);
            cylinders = total / track;
        }
        (per_track, heads, by_heads) = (track, tried, cylinders);
    }
    let narrow = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
    (u16::try_from(by_heads / heads).unwrap_or(u16::MAX), narrow(heads), narrow(per_track))
}

/// zlib without compression (RFC 1950, RFC 1951 section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut chunks = data.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(u8::from(chunks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &Content, from: u64, to: u64) -> Vec<u8> {
        content.pieces(from, to).flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn every_range_is_a_part_of_the_whole() {
        let content = Content::vhd(1, "packages/a.vhd", 3 << 20);
        let all = whole(&content, 0, u64::MAX);
        assert_eq!(all.len() as u64, content.length());
        assert_eq!(&all[3 << 20..(3 << 20) + 8], b"conectix");
        for (from, to) in [(0, 1), (5, 30), (1 << 20, (1 << 20) + 17), (777_777, 2_222_222), ((3 << 20) - 3, u64::MAX)]
        {
            let part = whole(&content, from, to);
            assert_eq!(part, all[usize_of(from)..usize_of(to.min(content.length()))], "{from}..{to}");
        }
        assert_ne!(all[..1 << 20], all[1 << 20..2 << 20]);
        assert_ne!(all, whole(&Content::vhd(1, "packages/b.vhd", 3 << 20), 0, u64::MAX));
    }
}
