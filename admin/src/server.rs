//! Operations on the server itself.

mod configuration;
mod program;
mod status;
mod version;

pub use configuration::{Config, Reload};
pub use program::Backup;
pub use status::Status;
pub use version::Version;
