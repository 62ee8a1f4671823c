use super::*;

#[test]
fn the_reports_of_a_packet_are_told_apart() {
    let mut packet = vec![0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 9, 0, 10, 0x80, 0x01];
    packet.extend([0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    packet.extend([0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9]);
    let read: Vec<_> = reports(&packet).collect();
    let pairs = &[0, 10, 0x80, 0x01];
    assert_eq!(read[0], Report::Missing { ssrc: 9, pairs });
    assert_eq!(read[1..], [Report::Arrivals(&[1, 2, 3, 4, 5, 6, 7, 8]), Report::Other]);
    assert_eq!(missing(pairs).collect::<Vec<_>>(), [10, 11, 26]);
    assert_eq!(reports(&packet[..10]).collect::<Vec<_>>(), [Report::Other], "cut off");
}

fn read(body: &[u8], newest: u64) -> Option<Vec<(u64, Option<u64>)>> {
    let mut outcomes = Vec::new();
    Arrivals::default().read(body, newest, &mut outcomes)?;
    let first = outcomes.iter().find_map(|outcome| outcome.arrival).unwrap_or_default();
    let micros = |outcome: &Outcome| outcome.arrival.map(|arrival| (arrival - first.min(arrival)).as_micros() as u64);
    Some(outcomes.iter().map(|outcome| (outcome.number, micros(outcome))).collect())
}

#[test]
fn arrivals_are_read_from_runs_and_lists() {
    // Base 65,534, seven packets; a run of two with small steps, then a list of two bits each: large, lost, small, lost, small.
    let (run, list) = (0x2002u16.to_be_bytes(), 0b11_10_00_01_00_01_00_00u16.to_be_bytes());
    let mut body = vec![0xff, 0xfe, 0, 7, 0, 0, 1, 0];
    body.extend(run);
    body.extend(list);
    body.extend([4, 8]);
    body.extend((-12i16).to_be_bytes());
    body.extend([2, 1]);
    let expected =
        [(65_534, Some(0)), (65_535, Some(2000)), (65_536, Some(0)), (65_537, None), (65_538, Some(0)), (65_539, None)];
    let read_all = read(&body, 65_600).unwrap();
    // The third came 1 ms before the first: the difference is taken as none here.
    assert_eq!(read_all[..6], expected);
    assert_eq!(read_all[6], (65_540, Some(0)));
    assert!(read(&body[..body.len() - 1], 65_600).is_none(), "a step is missing");
    assert!(read(&body, 10).is_none(), "from before the first number");
}

#[test]
fn a_list_of_one_bit_each_is_read_to_the_count() {
    let list = (0x8000u16 | 0b10_1000_0000_0000).to_be_bytes();
    let body = [&[0, 5, 0, 3, 0, 0, 0, 0][..], &list, &[4, 4]].concat();
    assert_eq!(read(&body, 70_000).unwrap(), [(65_541, Some(0)), (65_542, None), (65_543, Some(1000))]);
}

#[test]
fn a_few_bytes_do_not_speak_of_very_many_packets() {
    let lost = |count: u16| [&[0, 5][..], &count.to_be_bytes(), &[0; 4], &[0x1f, 0xff].repeat(9)].concat();
    assert_eq!(read(&lost(4096), 70_000).unwrap().len(), 4096);
    assert!(read(&lost(4097), 70_000).is_none());
}

#[test]
fn the_reference_time_goes_on_when_it_wraps_and_may_go_back() {
    let mut arrivals = Arrivals::default();
    let start = arrivals.unwrap_reference(0xff_fffe);
    assert_eq!(arrivals.unwrap_reference(3), start + 5);
    assert_eq!(arrivals.unwrap_reference(0xff_ffff), start + 1);
}
