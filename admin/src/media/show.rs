//! Showing one media.

use ::media::MediaRecord;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::MediaArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Show what is known of a media
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The media
    pub media: MediaArg,
}

/// The fields of a media, as operations show them.
pub(super) fn describe(record: MediaRecord) -> Vec<(&'static str, Cell)> {
    let (mut length, mut mime, mut name, mut sha256) = (Cell::None, Cell::None, Cell::None, Cell::None);
    if let Some(content) = record.content {
        length = Cell::Bytes(content.length);
        (mime, name) = (Cell::or_none(content.content_type, Cell::Text), Cell::or_none(content.file_name, Cell::Text));
        sha256 = Cell::Text(content.sha256);
    }
    vec![
        ("media", Cell::text(&record.mxc)),
        ("uploader", Cell::or_none(record.uploader, Cell::Text)),
        ("created", Cell::Time(record.created_ms)),
        ("last_access", Cell::or_none(record.last_access_ms, Cell::Time)),
        ("bytes", length),
        ("content_type", mime),
        ("file_name", name),
        ("sha256", sha256),
        ("quarantined_by", Cell::or_none(record.quarantined_by, Cell::Text)),
        ("hidden_by_content", record.is_hidden_by_content.into()),
        ("protected", record.is_protected.into()),
    ]
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("media", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{mxc}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        Ok(Outcome::record(describe(admin.media().describe(&self.media.mxc()?)?)))
    }
}
