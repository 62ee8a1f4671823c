//! The engine's cryptography with a DTLS that tells its keys: the engine gives the keys of media to nobody.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider};

use super::{Keys, engine};

/// Where the keys of a connection are put once they are negotiated.
#[derive(Clone, Default)]
pub struct KeySlot(Arc<Mutex<Option<Keys>>>);

impl KeySlot {
    /// Takes the keys out, if they are there.
    pub fn take(&self) -> Option<Keys> {
        self.0.lock().take()
    }
}

thread_local! {
    /// The slot of the engine that is being built on this thread.
    static BUILDING: RefCell<Option<KeySlot>> = const { RefCell::new(None) };
}

/// Builds an engine, which has to use [`provider`]; the slot is for its keys.
pub fn build_with_slot<T>(build: impl FnOnce() -> T) -> (T, KeySlot) {
    let slot = KeySlot::default();
    BUILDING.set(Some(slot.clone()));
    let built = build();
    BUILDING.take();
    (built, slot)
}

/// The engine's cryptography, with a DTLS that tells the keys to the slot of [`build_with_slot`].
pub fn provider() -> Arc<CryptoProvider> {
    static TELLING: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let telling = TELLING.get_or_init(|| Arc::new(CryptoProvider { dtls_provider: &TellingDtls, ..engine().clone() }));
    telling.clone()
}

#[derive(Debug)]
struct TellingDtls;

impl DtlsProvider for TellingDtls {
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
        Ok(Box::new(Telling { dtls, slot: BUILDING.take().unwrap_or_default() }))
    }
}

struct Telling {
    dtls: Box<dyn DtlsInstance>,
    slot: KeySlot,
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Telling")
    }
}

impl DtlsInstance for Telling {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.dtls.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            *self.slot.0.lock() = Keys::new(material, *profile, self.dtls.is_active());
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
