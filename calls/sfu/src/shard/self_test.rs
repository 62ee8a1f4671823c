//! An answer for self-tests: whoever knows the secret name is told under which address it is seen. It shows
//! that datagrams reach the media port. Anybody else gets no answer without a call, as before.

use std::net::{IpAddr, SocketAddr};

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::routes::{is_stun, local_name};

const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Binding request and success (RFC 8489 §5).
const REQUEST: [u8; 2] = [0, 1];
const SUCCESS: [u8; 2] = [1, 1];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0, 0x20];

/// The name, and what it answers.
pub struct SelfTest(String);

impl SelfTest {
    /// Makes the name from the secret that signs the tokens: the same on every thread, and long enough that no answer is
    /// larger than its request.
    pub fn new(secret: &[u8; 32]) -> SelfTest {
        // A MAC takes a key of any length.
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(secret) else { return SelfTest(String::new()) };
        mac.update(b"self-test of the media port");
        SelfTest(mac.finalize().into_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The user name to ask under.
    pub fn username(&self) -> String {
        format!("{}:probe", self.0)
    }

    /// The answer to a binding request under that name from `source` (RFC 8489 §7.3.1); `None` for anything else.
    pub fn answer(&self, datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let asked = is_stun(datagram) && datagram.get(..2)? == REQUEST && !self.0.is_empty();
        if !asked || local_name(datagram)? != self.0 {
            return None;
        }
        write_answer(datagram.get(8..20)?, source)
    }
}

fn write_answer(transaction: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let mask: Vec<u8> = MAGIC.iter().chain(transaction).copied().collect();
    let xored = |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect() };
    let (family, address) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, xored(&ip.octets())),
        IpAddr::V6(ip) => (2, xored(&ip.octets())),
    };
    let mut value = vec![0, family];
    value.extend(xored(&source.port().to_be_bytes()));
    value.extend(address);
    let length = u16::try_from(value.len()).ok()?;
    let mut answer = SUCCESS.to_vec();
    answer.extend(length.checked_add(4)?.to_be_bytes());
    answer.extend(MAGIC);
    answer.extend(transaction);
    answer.extend(XOR_MAPPED_ADDRESS);
    answer.extend(length.to_be_bytes());
    answer.extend(value);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binding request with the transaction of RFC 5769 §2.2, under a user name.
    fn request(username: &str) -> Vec<u8> {
        let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        request.extend([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
        request.extend([0, 6, 0, u8::try_from(username.len()).unwrap()]);
        request.extend(username.as_bytes());
        request.resize(request.len().next_multiple_of(4), 0);
        request[3] = u8::try_from(request.len() - 20).unwrap();
        request
    }

    #[test]
    fn who_knows_the_name_is_told_their_address() {
        let self_test = SelfTest::new(&[1; 32]);
        let good = request(&self_test.username());
        let v4 = self_test.answer(&good, "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6 = self_test.answer(&good, "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()).unwrap();
        assert_eq!(v6[20..30], [0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 1, 0x13]);
        assert!(v6.len() <= good.len(), "no answer is larger than its request");
    }

    #[test]
    fn nobody_else_is_answered() {
        let self_test = SelfTest::new(&[1; 32]);
        let from = "192.0.2.1:1".parse().unwrap();
        let mut indication = request(&self_test.username());
        indication[1] = 0x11;
        for silent in [indication, request("x:y"), request(&SelfTest::new(&[2; 32]).username()), vec![0, 1], Vec::new()]
        {
            assert_eq!(self_test.answer(&silent, from), None);
        }
    }
}
