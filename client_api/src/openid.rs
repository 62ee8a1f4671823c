//! Client-Server API §"OpenID".

use axum::extract::State;
use spec::ids::UserId;
use users::Users;

use crate::extract::{Args, User};
use crate::json::{Answer, answer};
use crate::login::check_own;

/// `POST /user/{userId}/openid/request_token`.
pub(crate) async fn create_token(user: User, Args(subject): Args<UserId>, State(users): State<Users>) -> Answer {
    let user = check_own(&user, &subject)?;
    answer(&users.create_openid_token(user).await?)
}
