//! Client-Server API §"Content repository": previews of URLs.

use ::media::Previews;
use axum::extract::State;

use crate::extract::User;
use crate::json::{Answer, answer};
use crate::query::Query;

/// `GET /media/preview_url`.
pub(crate) async fn preview_url(user: User, query: Query, State(previews): State<Previews>) -> Answer {
    let url = query.required("url")?;
    answer(&previews.preview(&user.user_id, &url, query.parsed("ts")?).await?)
}
