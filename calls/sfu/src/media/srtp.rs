//! Sealing of media packets that the engine does not send itself (RFC 3711, RFC 7714), with the key that its DTLS has
//! negotiated.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion, SrtpProfile,
};
use str0m::crypto::{
    AeadAes128Gcm, AeadAes128GcmCipher, AeadAes256Gcm, AeadAes256GcmCipher, CryptoError, CryptoProvider,
};

/// What a sealed packet is longer.
pub const TAG: usize = 16;
/// The salts of AEAD, and those that keys are derived with: the rest is zero (RFC 7714 section 11).
const SALT: usize = 12;
const MASTER_SALT: usize = 14;
/// Labels of RFC 3711 section 4.3.2.
const LABEL_KEY: u8 = 0;
const LABEL_SALT: u8 = 2;

/// Where the sealer of a connection is put once its keys are negotiated. It stays empty when the client has chosen a profile
/// that is not AEAD.
#[derive(Clone, Default)]
pub struct SealerSlot(Arc<Mutex<Option<Sealer>>>);

impl SealerSlot {
    /// Takes the sealer out, if it is there.
    pub fn take(&self) -> Option<Sealer> {
        self.0.lock().take()
    }
}

thread_local! {
    /// The slot of the engine that is being built on this thread.
    static BUILDING: RefCell<Option<SealerSlot>> = const { RefCell::new(None) };
}

/// Builds an engine, which has to use [`provider`]; the slot is for its sealer.
pub fn build_tapped<T>(build: impl FnOnce() -> T) -> (T, SealerSlot) {
    let slot = SealerSlot::default();
    BUILDING.set(Some(slot.clone()));
    let built = build();
    BUILDING.take();
    (built, slot)
}

/// The engine's cryptography, with a DTLS that tells the key for sending to the slot of [`build_tapped`]: the engine itself
/// gives it to nobody.
pub fn provider() -> Arc<CryptoProvider> {
    static TAPPED: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let tapped = TAPPED.get_or_init(|| Arc::new(CryptoProvider { dtls_provider: &TappedDtls, ..engine().clone() }));
    tapped.clone()
}

/// The cryptography that the engine brings.
fn engine() -> &'static CryptoProvider {
    static ENGINE: OnceLock<CryptoProvider> = OnceLock::new();
    ENGINE.get_or_init(str0m::crypto::from_feature_flags)
}

#[derive(Debug)]
struct TappedDtls;

impl DtlsProvider for TappedDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        engine().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let dtls = engine().dtls_provider.new_dtls(certificate, now, version, mtu)?;
        Ok(Box::new(Tapped { dtls, slot: BUILDING.take().unwrap_or_default() }))
    }
}

struct Tapped {
    dtls: Box<dyn DtlsInstance>,
    slot: SealerSlot,
}

impl std::fmt::Debug for Tapped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tapped")
    }
}

impl DtlsInstance for Tapped {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.dtls.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output
            && let Some(sealer) = Sealer::new(material, *profile, self.dtls.is_active())
        {
            *self.slot.0.lock() = Some(sealer);
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}

/// Seals packets with the key of one connection and direction. Whoever calls it sees to it that no index is used twice for
/// an SSRC: with AEAD that would give the key away.
pub struct Sealer {
    cipher: Cipher,
    salt: [u8; SALT],
}

enum Cipher {
    Gcm128(Box<dyn AeadAes128GcmCipher>),
    Gcm256(Box<dyn AeadAes256GcmCipher>),
}

impl Sealer {
    /// The sealer for what is sent, of what DTLS has exported (RFC 5764 section 4.2); `active`: whether we are its client.
    /// `None` for profiles other than AEAD.
    pub fn new(material: &[u8], profile: SrtpProfile, active: bool) -> Option<Sealer> {
        let srtp = engine().srtp_provider;
        match profile {
            SrtpProfile::AEAD_AES_128_GCM => {
                let master = Master::<{ AeadAes128Gcm::KEY_LEN }>::read(material, active)?;
                let round =
                    |key: &[u8], input: &[u8], output: &mut [u8]| srtp.srtp_aes_128_ecb_round(key, input, output);
                let cipher = srtp.aead_aes_128_gcm().create_cipher(master.derive(LABEL_KEY, round), true);
                Some(Sealer { cipher: Cipher::Gcm128(cipher), salt: master.derive(LABEL_SALT, round) })
            }
            SrtpProfile::AEAD_AES_256_GCM => {
                let master = Master::<{ AeadAes256Gcm::KEY_LEN }>::read(material, active)?;
                let round =
                    |key: &[u8], input: &[u8], output: &mut [u8]| srtp.srtp_aes_256_ecb_round(key, input, output);
                let cipher = srtp.aead_aes_256_gcm().create_cipher(master.derive(LABEL_KEY, round), true);
                Some(Sealer { cipher: Cipher::Gcm256(cipher), salt: master.derive(LABEL_SALT, round) })
            }
            _ => None,
        }
    }

    /// The packet of an RTP header and a payload, sealed. `index` is the extended sequence number.
    pub fn seal(&mut self, header: &[u8], ssrc: u32, index: u64, payload: &[u8]) -> Option<Vec<u8>> {
        let (roc, seq) = ((index >> 16) as u32, index as u16);
        let mut packet = vec![0; header.len().checked_add(payload.len())?.checked_add(TAG)?];
        let (head, body) = packet.split_at_mut_checked(header.len())?;
        head.copy_from_slice(header);
        match &mut self.cipher {
            Cipher::Gcm128(cipher) => {
                cipher.encrypt(&AeadAes128Gcm::rtp_iv(self.salt, ssrc, roc, seq), header, payload, body).ok()?;
            }
            Cipher::Gcm256(cipher) => {
                cipher.encrypt(&AeadAes256Gcm::rtp_iv(self.salt, ssrc, roc, seq), header, payload, body).ok()?;
            }
        }
        Some(packet)
    }
}

/// The master key and salt of one direction.
struct Master<const KEY: usize> {
    key: [u8; KEY],
    salt: [u8; MASTER_SALT],
}

impl<const KEY: usize> Master<KEY> {
    /// Ours, of the key of the client, the key of the server, and their salts in the same order.
    fn read(material: &[u8], active: bool) -> Option<Self> {
        let (keys, salts) = material.split_at_checked(KEY.checked_mul(2)?)?;
        let (first_key, first_salt) = if active { (0, 0) } else { (KEY, SALT) };
        let mut salt = [0; MASTER_SALT];
        salt.first_chunk_mut::<SALT>()?.copy_from_slice(salts.get(first_salt..)?.first_chunk::<SALT>()?);
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
