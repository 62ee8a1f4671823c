use std::io::Cursor;

use super::super::ebml::{Elements, read_head, read_uint};
use super::super::inspect::inspect_bytes;
use super::*;

fn segment(file: &[u8]) -> &[u8] {
    let start = segment_start() as usize;
    let (id, size, length) = read_head(&file[start - 12..]).unwrap();
    assert_eq!((id, length), (SEGMENT, 12));
    assert!(size.is_none_or(|size| size as usize == file.len() - start), "the size is that of the file");
    &file[start..]
}

/// Time, track, key and content of all blocks.
fn blocks(file: &[u8]) -> Vec<(u64, u8, bool, Vec<u8>)> {
    let mut found = Vec::new();
    for (_, cluster) in Elements(segment(file)).filter(|(id, _)| *id == CLUSTER) {
        let mut begin = 0;
        for (id, content) in Elements(cluster) {
            match id {
                TIMESTAMP => begin = read_uint(content).unwrap(),
                SIMPLE_BLOCK => {
                    let since = i16::from_be_bytes([content[1], content[2]]);
                    let time = begin.checked_add_signed(i64::from(since)).unwrap();
                    found.push((time, content[0] & 0x7f, content[3] & 0x80 != 0, content[4..].to_vec()));
                }
                other => panic!("{other:x} in a cluster"),
            }
        }
    }
    found
}

#[test]
fn frames_come_out_as_they_went_in() {
    let mut file = Webm::new(Cursor::new(Vec::new()), 1_700_000_000_000).unwrap();
    let sound = file.add_track(Media::Sound, "alice microphone").unwrap().unwrap();
    let mut expected = Vec::new();
    let mut picture = None;
    for index in 0..1000_u64 {
        let time = index * 20;
        let frame = vec![index as u8; 50];
        file.add_frame(sound, time, true, &frame).unwrap();
        expected.push((time, sound, true, frame));
        if index == 100 {
            picture = file.add_track(Media::Pictures { width: 640, height: 480 }, "alice camera").unwrap();
        }
        if let Some(track) = picture {
            let (is_key, frame) = (index % 150 == 100, vec![1; 3000]);
            file.add_frame(track, time, is_key, &frame).unwrap();
            expected.push((time, track, is_key, frame));
        }
    }
    let bytes = file.finish().unwrap().into_inner();
    assert_eq!(blocks(&bytes), expected);
    let ids: Vec<u32> = Elements(segment(&bytes)).map(|(id, _)| id).collect();
    assert_eq!(&ids[..5], [SEEK_HEAD, INFO, TRACKS, VOID, CLUSTER]);
    assert_eq!(ids.last(), Some(&CUES));
    // Every place in the table is that of a cluster with this time.
    let (_, cues) = Elements(segment(&bytes)).last().unwrap();
    for (_, cue) in Elements(cues) {
        let fields: Vec<_> = Elements(cue).collect();
        let (_, position) = Elements(fields[1].1).nth(1).unwrap();
        let (id, cluster) = Elements(&segment(&bytes)[read_uint(position).unwrap() as usize..]).next().unwrap();
        assert_eq!((id, Elements(cluster).next().unwrap().1), (CLUSTER, fields[0].1));
    }
}

#[test]
fn a_file_that_is_cut_off_is_good_until_there() {
    let mut file = Webm::new(Cursor::new(Vec::new()), 0).unwrap();
    let track = file.add_track(Media::Sound, "a").unwrap().unwrap();
    for index in 0..600 {
        file.add_frame(track, index * 20, true, b"sound").unwrap();
    }
    let bytes = file.out.into_inner();
    let whole = blocks(&bytes).len();
    assert!((250..600).contains(&whole), "{whole}");
    assert!(blocks(&bytes[..bytes.len() - 1]).len() < whole);
    // The length is that of what is there, though nobody noted it.
    let about = inspect_bytes(&bytes).unwrap();
    assert_eq!(about.duration_ms, (whole as u64 - 1) * 20);
    assert_eq!((about.has_sound, about.pictures), (true, None));
}

#[test]
fn tracks_and_names_have_a_limit_and_always_fit() {
    let mut file = Webm::new(Cursor::new(Vec::new()), 0).unwrap();
    let name = "ü".repeat(500);
    for number in 1..=MAX_TRACKS {
        assert_eq!(file.add_track(Media::Sound, &name).unwrap(), u8::try_from(number).ok());
    }
    assert_eq!(file.add_track(Media::Sound, "one more").unwrap(), None);
    file.add_frame(1, 0, true, b"sound").unwrap();
    let bytes = file.finish().unwrap().into_inner();
    let (_, tracks) = Elements(segment(&bytes)).find(|(id, _)| *id == TRACKS).unwrap();
    assert_eq!(Elements(tracks).count(), MAX_TRACKS);
}

#[test]
fn times_never_go_back_and_long_silence_makes_a_cluster() {
    let mut file = Webm::new(Cursor::new(Vec::new()), 0).unwrap();
    let track = file.add_track(Media::Sound, "a").unwrap().unwrap();
    for time in [100, 90, 4_000_000, 4_000_020] {
        file.add_frame(track, time, true, b"x").unwrap();
    }
    let times: Vec<u64> = blocks(&file.finish().unwrap().into_inner()).iter().map(|block| block.0).collect();
    assert_eq!(times, [100, 100, 4_000_000, 4_000_020]);
}
