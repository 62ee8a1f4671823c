use super::*;

/// An ICE check for a local user name.
fn check(name: &str) -> Vec<u8> {
    let mut datagram = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    datagram.extend([7; 12]);
    datagram.extend([0, 6]);
    datagram.extend((name.len() as u16).to_be_bytes());
    datagram.extend(name.as_bytes());
    datagram
}

#[test]
fn a_check_goes_by_its_name_and_the_rest_by_its_source() {
    let exchange = Exchange::default();
    let source = SocketAddr::from(([192, 0, 2, 1], 4000));
    exchange.add_name("ours".to_owned(), 2);
    exchange.add_address(source, false, 1);
    assert_eq!(exchange.find(source, false, &check("ours:theirs")), Some(2), "also from an address of another");
    assert_eq!(exchange.find(source, false, &check("none:theirs")), Some(1));
    assert_eq!(exchange.find(source, false, &[0x80; 20]), Some(1));
    assert_eq!(exchange.find(source, true, &[0x80; 20]), None);
    exchange.remove_name("ours");
    assert_eq!(exchange.find(SocketAddr::from(([192, 0, 2, 2], 4000)), false, &check("ours:theirs")), None);
}

#[test]
fn an_address_that_another_thread_took_over_stays() {
    let exchange = Exchange::default();
    let source = SocketAddr::from(([192, 0, 2, 1], 4000));
    exchange.add_address(source, false, 0);
    exchange.add_address(source, false, 1);
    exchange.remove_address(source, false, 0);
    assert_eq!(exchange.find(source, false, &[0x80; 20]), Some(1));
    exchange.remove_thread(1);
    assert_eq!(exchange.find(source, false, &[0x80; 20]), None);
}

#[test]
fn a_batch_gives_back_what_it_was_given() {
    let (source, to) = (SocketAddr::from(([192, 0, 2, 1], 4000)), Some(IpAddr::from([192, 0, 2, 9])));
    let mut batch = Batch::new(Protocol::Udp);
    assert!(batch.is_empty());
    batch.push(source, to, b"one");
    batch.push(source, None, b"");
    batch.push(source, None, b"three");
    let given: Vec<_> = batch.datagrams().collect();
    assert_eq!(given, [(source, to, b"one".as_slice()), (source, None, b""), (source, None, b"three")]);
}
