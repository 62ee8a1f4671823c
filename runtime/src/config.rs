//! How crates describe their part of the configuration.
//!
//! A section is declared once, by [`config_section!`](crate::config_section); struct, defaults and
//! the documentation in `conduit.toml` come from that one declaration.

mod live;
#[cfg(test)]
mod tests;
mod values;

pub use live::Live;
pub use values::{BadValue, ByteSize, RateLimit, Span};

/// What is known of a section without a value of it.
#[derive(Debug)]
pub struct SectionInfo {
    /// Lines of the doc comment.
    pub docs: &'static [&'static str],
    /// The keys, in the order they are shown.
    pub fields: &'static [FieldInfo],
    /// Sections inside this one, with their names.
    pub sections: &'static [(&'static str, SectionInfo)],
}

/// What is known of a key.
#[derive(Debug)]
pub struct FieldInfo {
    /// The key.
    pub name: &'static str,
    /// Lines of the doc comment.
    pub docs: &'static [&'static str],
    /// Whether a changed value is taken over while the server runs (SIGHUP).
    pub reloadable: bool,
    /// Whether the value must not be printed.
    pub secret: bool,
    /// A value to show, as TOML, for a key that has no default.
    pub example: Option<&'static str>,
}

impl FieldInfo {
    /// A key that is not reloadable, not secret and has no example.
    pub const fn new(name: &'static str, docs: &'static [&'static str]) -> FieldInfo {
        FieldInfo { name, docs, reloadable: false, secret: false, example: None }
    }

    /// Marks the key as reloadable.
    pub const fn reloadable(self) -> FieldInfo {
        FieldInfo { reloadable: true, ..self }
    }

    /// Marks the value as one that must not be printed.
    pub const fn secret(self) -> FieldInfo {
        FieldInfo { secret: true, ..self }
    }

    /// Adds a value to show, as TOML.
    pub const fn example(self, example: &'static str) -> FieldInfo {
        FieldInfo { example: Some(example), ..self }
    }
}

/// A part of the configuration; implemented by [`config_section!`](crate::config_section).
pub trait ConfigSection: Default + serde::Serialize + serde::de::DeserializeOwned {
    /// Its description.
    const INFO: SectionInfo;
}

/// Declares a section of the configuration: the struct with serde, `Default` and [`ConfigSection`].
///
/// Each key has a doc comment, a type, a default, and optional marks after a comma: `reloadable`,
/// `secret`, `example("TOML")` (for a key whose default is `None`). Sections inside this one follow
/// in `sections { name: Type, … }`.
///
/// ```ignore
/// runtime::config_section! {
///     /// Media that users upload.
///     pub struct MediaConfig {
///         /// The largest upload.
///         pub max_upload: ByteSize = ByteSize::mib(50), reloadable;
///         /// A folder for media, instead of `media` in `data_dir`.
///         pub directory: Option<PathBuf> = None, example("\"/srv/media\"");
///     }
/// }
/// ```
#[macro_export]
macro_rules! config_section {
    (
        $(#[doc = $doc:literal])*
        $vis:vis struct $section:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $field_vis:vis $field:ident: $type:ty = $default:expr
                $(, $mark:ident $(($argument:literal))?)*;
            )*
        }
        $(sections { $($inner:ident: $inner_type:ty),* $(,)? })?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        $vis struct $section {
            $(
                $(#[doc = $field_doc])*
                $field_vis $field: $type,
            )*
            $($(
                #[doc = concat!("The section `", stringify!($inner), "`.")]
                pub $inner: $inner_type,
            )*)?
        }

        impl ::std::default::Default for $section {
            fn default() -> Self {
                Self {
                    $($field: $default,)*
                    $($($inner: <$inner_type as ::std::default::Default>::default(),)*)?
                }
            }
        }

        impl $crate::config::ConfigSection for $section {
            const INFO: $crate::config::SectionInfo = $crate::config::SectionInfo {
                docs: &[$($doc),*],
                fields: &[$(
                    $crate::config::FieldInfo::new(stringify!($field), &[$($field_doc),*])
                        $(.$mark($($argument)?))*
                ),*],
                sections: &[$($(
                    (stringify!($inner), <$inner_type as $crate::config::ConfigSection>::INFO)
                ),*)?],
            };
        }
    };
}
