//! Sealing of the media packets that we send, and opening of the reports on them (RFC 3711, RFC 7714), with the keys that the
//! engine's DTLS has negotiated.

pub mod slot;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use str0m::crypto::dtls::SrtpProfile;
use str0m::crypto::{
    AeadAes128Gcm, AeadAes128GcmCipher, AeadAes256Gcm, AeadAes256GcmCipher, Aes128CmSha1_80, Aes128CmSha1_80Cipher,
    CryptoProvider,
};

/// The most bytes that a sealed packet is longer.
pub const TAG: usize = 16;
/// The salts of AEAD, and those that keys are derived with: the rest is zero (RFC 7714 section 11).
const SALT: usize = 12;
const MASTER_SALT: usize = 14;
/// The length of keys for HMAC-SHA1, and of the tags that are sent of it.
const HMAC_KEY: usize = 20;
const HMAC_TAG: usize = 10;
/// The cipher writes whole blocks: so much more than its input.
const BLOCK_REST: usize = 15;
/// The part of a report that is not encrypted, and its index (RFC 3711 section 3.4).
const REPORT_HEADER: usize = 8;
const REPORT_INDEX: usize = 4;
/// Labels of RFC 3711 section 4.3.2; those of reports come three later.
const LABEL_KEY: u8 = 0;
const LABEL_HMAC: u8 = 1;
const LABEL_SALT: u8 = 2;
const LABELS_OF_REPORTS: u8 = 3;

/// The cryptography that the engine brings.
fn engine() -> &'static CryptoProvider {
    static ENGINE: OnceLock<CryptoProvider> = OnceLock::new();
    ENGINE.get_or_init(str0m::crypto::from_feature_flags)
}

/// What one connection seals and opens with.
pub struct Keys {
    pub sealer: Sealer,
    pub opener: Opener,
}

impl Keys {
    /// The keys in what DTLS has exported (RFC 5764 section 4.2); `active`: whether we are its client. `None` for an unknown
    /// profile, or less than its keys.
    pub fn new(material: &[u8], profile: SrtpProfile, active: bool) -> Option<Keys> {
        let of_media = |ours| Session::new(material, profile, ours, 0);
        let of_reports = |ours| Session::new(material, profile, ours, LABELS_OF_REPORTS);
        Some(Keys { sealer: Sealer(of_media(active)?.ready(true)), opener: Opener(of_reports(!active)?.ready(false)) })
    }
}

/// The session keys of one direction.
struct Session {
    key: SessionKey,
    salt: [u8; MASTER_SALT],
}

enum SessionKey {
    Gcm128([u8; AeadAes128Gcm::KEY_LEN]),
    Gcm256([u8; AeadAes256Gcm::KEY_LEN]),
    Cm { key: [u8; Aes128CmSha1_80::KEY_LEN], hmac: [u8; HMAC_KEY] },
}

impl Session {
    fn new(material: &[u8], profile: SrtpProfile, client: bool, labels: u8) -> Option<Session> {
        let srtp = engine().srtp_provider;
        let short = |key: &[u8], input: &[u8], output: &mut [u8]| srtp.srtp_aes_128_ecb_round(key, input, output);
        let long = |key: &[u8], input: &[u8], output: &mut [u8]| srtp.srtp_aes_256_ecb_round(key, input, output);
        Some(match profile {
            SrtpProfile::AEAD_AES_128_GCM => {
                let master = Master::<{ AeadAes128Gcm::KEY_LEN }>::read(material, client, SALT)?;
                let key = SessionKey::Gcm128(master.derive(LABEL_KEY + labels, short));
                Session { key, salt: master.derive(LABEL_SALT + labels, short) }
            }
            SrtpProfile::AEAD_AES_256_GCM => {
                let master = Master::<{ AeadAes256Gcm::KEY_LEN }>::read(material, client, SALT)?;
                let key = SessionKey::Gcm256(master.derive(LABEL_KEY + labels, long));
                Session { key, salt: master.derive(LABEL_SALT + labels, long) }
            }
            SrtpProfile::AES128_CM_SHA1_80 => {
                let master = Master::<{ Aes128CmSha1_80::KEY_LEN }>::read(material, client, MASTER_SALT)?;
                let (key, hmac) = (master.derive(LABEL_KEY + labels, short), master.derive(LABEL_HMAC + labels, short));
                Session { key: SessionKey::Cm { key, hmac }, salt: master.derive(LABEL_SALT + labels, short) }
            }
            _ => return None,
        })
    }

    /// Ready to seal, or to open.
    fn ready(self, seal: bool) -> Kind {
        let srtp = engine().srtp_provider;
        let [a, b, c, d, e, f, g, h, i, j, k, l, _, _] = self.salt;
        let salt = [a, b, c, d, e, f, g, h, i, j, k, l];
        match self.key {
            SessionKey::Gcm128(key) => Kind::Gcm128 { cipher: srtp.aead_aes_128_gcm().create_cipher(key, seal), salt },
            SessionKey::Gcm256(key) => Kind::Gcm256 { cipher: srtp.aead_aes_256_gcm().create_cipher(key, seal), salt },
            SessionKey::Cm { key, hmac } => {
                Kind::Cm { cipher: srtp.aes_128_cm_sha1_80().create_cipher(key, seal), salt: self.salt, hmac }
            }
        }
    }
}

enum Kind {
    Gcm128 { cipher: Box<dyn AeadAes128GcmCipher>, salt: [u8; SALT] },
    Gcm256 { cipher: Box<dyn AeadAes256GcmCipher>, salt: [u8; SALT] },
    Cm { cipher: Box<dyn Aes128CmSha1_80Cipher>, salt: [u8; MASTER_SALT], hmac: [u8; HMAC_KEY] },
}

/// Seals packets with the key of one connection and direction. Whoever calls it sees to it that no index is used twice for
/// an SSRC: with AEAD that would give the key away.
pub struct Sealer(Kind);

impl Sealer {
    /// Appends the packet of an RTP header and a payload to `out`, sealed. `index` is the extended sequence number. On `None`
    /// nothing was appended.
    pub fn seal(&mut self, out: &mut Vec<u8>, header: &[u8], ssrc: u32, index: u64, payload: &[u8]) -> Option<()> {
        let begin = out.len();
        out.extend_from_slice(header);
        let sealed = self.seal_body(out, begin, ssrc, index, payload);
        if sealed.is_none() {
            out.truncate(begin);
        }
        sealed
    }

    fn seal_body(&mut self, out: &mut Vec<u8>, begin: usize, ssrc: u32, index: u64, payload: &[u8]) -> Option<()> {
        let body_at = out.len();
        let (roc, seq) = ((index >> 16) as u32, index as u16);
        out.resize(body_at.checked_add(payload.len())?.checked_add(TAG)?, 0);
        let (before, body) = out.split_at_mut_checked(body_at)?;
        let header = before.get(begin..)?;
        match &mut self.0 {
            Kind::Gcm128 { cipher, salt } => {
                cipher.encrypt(&AeadAes128Gcm::rtp_iv(*salt, ssrc, roc, seq), header, payload, body).ok()
            }
            Kind::Gcm256 { cipher, salt } => {
                cipher.encrypt(&AeadAes256Gcm::rtp_iv(*salt, ssrc, roc, seq), header, payload, body).ok()
            }
            Kind::Cm { cipher, salt, hmac } => {
                const { assert!(BLOCK_REST <= TAG) };
                cipher.encrypt(&Aes128CmSha1_80::rtp_iv(*salt, ssrc, index), payload, body).ok()?;
                let body = body.get(..payload.len())?;
                let tag = engine().sha1_hmac_provider.sha1_hmac(hmac, &[header, body, &roc.to_be_bytes()]);
                out.truncate(body_at + payload.len());
                out.extend_from_slice(tag.get(..HMAC_TAG)?);
                Some(())
            }
        }
    }
}

/// Opens the reports of one connection.
pub struct Opener(Kind);

impl Opener {
    /// The reports in an SRTCP packet (RFC 3711 section 3.4, RFC 7714 section 9). `None` for one that is not the client's, or is
    /// not encrypted. It is not looked whether it came before: whoever acts on a report bears with a second one.
    pub fn open(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let ssrc = u32::from_be_bytes(*packet.get(4..REPORT_HEADER)?.first_chunk()?);
        match &mut self.0 {
            Kind::Gcm128 { cipher, salt } => {
                let parts = AeadReport::split(packet)?;
                let iv = AeadAes128Gcm::rtcp_iv(*salt, ssrc, parts.index);
                parts.open(|aads, input, output| cipher.decrypt(&iv, aads, input, output).ok())
            }
            Kind::Gcm256 { cipher, salt } => {
                let parts = AeadReport::split(packet)?;
                let iv = AeadAes256Gcm::rtcp_iv(*salt, ssrc, parts.index);
                parts.open(|aads, input, output| cipher.decrypt(&iv, aads, input, output).ok())
            }
            Kind::Cm { cipher, salt, hmac } => {
                let (covered, tag) = packet.split_last_chunk::<HMAC_TAG>()?;
                let hmac_of = |key: &[u8], parts: &[&[u8]]| engine().sha1_hmac_provider.sha1_hmac(key, parts);
                if !Aes128CmSha1_80::rtcp_verify(hmac_of, hmac, covered, tag) {
                    return None;
                }
                let (report, index) = covered.split_last_chunk::<REPORT_INDEX>()?;
                let (header, body) = report.split_at_checked(REPORT_HEADER)?;
                let iv = Aes128CmSha1_80::rtp_iv(*salt, ssrc, u64::from(index_of(*index)?));
                let mut opened = header.to_vec();
                opened.resize(REPORT_HEADER + body.len() + BLOCK_REST, 0);
                cipher.decrypt(&iv, body, opened.get_mut(REPORT_HEADER..)?).ok()?;
                opened.truncate(REPORT_HEADER + body.len());
                Some(opened)
            }
        }
    }
}

/// The index of a report; `None` for one that is not encrypted.
fn index_of(field: [u8; REPORT_INDEX]) -> Option<u32> {
    const ENCRYPTED: u32 = 0x8000_0000;
    let field = u32::from_be_bytes(field);
    (field & ENCRYPTED != 0).then_some(field & !ENCRYPTED)
}

/// The parts of a report sealed with AEAD.
struct AeadReport<'a> {
    header: &'a [u8],
    sealed: &'a [u8],
    field: &'a [u8; REPORT_INDEX],
    index: u32,
}

impl<'a> AeadReport<'a> {
    fn split(packet: &'a [u8]) -> Option<Self> {
        let (report, field) = packet.split_last_chunk::<REPORT_INDEX>()?;
        let (header, sealed) = report.split_at_checked(REPORT_HEADER)?;
        (sealed.len() >= TAG).then_some(())?;
        Some(AeadReport { header, sealed, field, index: index_of(*field)? })
    }

    fn open(&self, decrypt: impl FnOnce(&[&[u8]], &[u8], &mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
        let mut opened = self.header.to_vec();
        opened.resize(REPORT_HEADER + self.sealed.len(), 0);
        let length = decrypt(&[self.header, self.field], self.sealed, opened.get_mut(REPORT_HEADER..)?)?;
        opened.truncate(REPORT_HEADER + length.min(self.sealed.len() - TAG));
        Some(opened)
    }
}

/// The master key and salt of one direction.
struct Master<const KEY: usize> {
    key: [u8; KEY],
    salt: [u8; MASTER_SALT],
}

impl<const KEY: usize> Master<KEY> {
    /// The client's or the server's, of the key of the client, the key of the server, and their salts in the same order.
    fn read(material: &[u8], client: bool, salt_length: usize) -> Option<Self> {
        let (keys, salts) = material.split_at_checked(KEY.checked_mul(2)?)?;
        let (first_key, first_salt) = if client { (0, 0) } else { (KEY, salt_length) };
        let mut salt = [0; MASTER_SALT];
        salt.get_mut(..salt_length)?.copy_from_slice(salts.get(first_salt..)?.get(..salt_length)?);
        Some(Master { key: *keys.get(first_key..)?.first_chunk()?, salt })
    }

    /// A session's key or salt (RFC 3711 section 4.3); `round` is AES.
    fn derive<const LENGTH: usize>(&self, label: u8, round: impl Fn(&[u8], &[u8], &mut [u8])) -> [u8; LENGTH] {
        let mut derived = [0; LENGTH];
        for (count, part) in (0u16..).zip(derived.chunks_mut(16)) {
            let mut input = [0; 16];
            for (to, from) in input.iter_mut().zip(&self.salt) {
                *to = *from;
            }
            let [.., high, low] = &mut input;
            [*high, *low] = count.to_be_bytes();
            if let Some(byte) = input.get_mut(7) {
                *byte ^= label;
            }
            let mut output = [0; 32];
            round(&self.key, &input, &mut output);
            for (to, from) in part.iter_mut().zip(output) {
                *to = from;
            }
        }
        derived
    }
}
