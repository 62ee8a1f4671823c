//! Cross-signing set-up and short-authentication-string verification.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use matrix_sdk::{
    Client,
    encryption::verification::{SasVerification, VerificationRequest},
    ruma::{UserId, api::client::uiaa},
};
use tokio::time::sleep;

use crate::{
    device::{Device, PASSWORD},
    report::{until, until_true},
    secret,
};

/// How long the second person looks at the emoji when the first has confirmed.
const BETWEEN_PEOPLE: Duration = Duration::from_secs(2);

/// Creates the cross-signing keys, with the password when the server asks for it.
pub async fn bootstrap_cross_signing(device: &Device) -> Result<()> {
    let encryption = device.client.encryption();
    if let Err(error) = encryption.bootstrap_cross_signing(None).await {
        let session = match error.as_uiaa_response() {
            Some(info) => info.session.clone(),
            None => return Err(error).context("uploading cross-signing keys"),
        };
        let user = uiaa::UserIdentifier::Matrix(uiaa::MatrixUserIdentifier::new(device.user()?.to_string()));
        let mut password = uiaa::Password::new(user, PASSWORD.to_owned());
        password.session = session;
        encryption
            .bootstrap_cross_signing(Some(uiaa::AuthData::Password(password)))
            .await
            .context("uploading cross-signing keys with the password")?;
    }
    let status = encryption.cross_signing_status().await.context("no cross-signing status")?;
    ensure!(status.is_complete(), "private cross-signing keys are missing: {status:?}");
    Ok(())
}

/// Verifies two devices of one user with each other.
pub async fn verify_own_devices(old: &Device, new: &Device) -> Result<()> {
    let user = old.user()?;
    let what = format!("the cross-signing identity of {user}");
    let identity = until(&what, async || {
        // The new device learns of the identity by a key query of its own.
        new.client.encryption().request_user_identity(user).await.ok().flatten()
    })
    .await?;
    // Both devices must know each other before the request can be answered.
    for (one, other) in [(old, new), (new, old)] {
        let device = other.client.device_id().context("no device id")?;
        until_true("the other device's keys", async || {
            let _ = one.client.encryption().request_user_identity(user).await;
            matches!(one.client.encryption().get_device(user, device).await, Ok(Some(_)))
        })
        .await?;
    }
    let request = identity.request_verification().await.context("requesting verification")?;
    run_sas(&new.client, &old.client, request).await?;

    until_true("the new device to be verified", async || {
        let own = new.client.encryption().get_own_device().await;
        matches!(own, Ok(Some(device)) if device.is_cross_signed_by_owner())
    })
    .await?;
    until_true("the private cross-signing keys on the new device", async || {
        let status = new.client.encryption().cross_signing_status().await;
        status.is_some_and(|status| status.is_complete())
    })
    .await
}

/// Verifies two users with each other; they share an encrypted direct room already.
pub async fn verify_users(one: &Device, other: &Device) -> Result<()> {
    let identity = one
        .client
        .encryption()
        .request_user_identity(other.user()?)
        .await?
        .context("the other user has no cross-signing identity")?;
    let request = identity.request_verification().await.context("requesting verification")?;
    run_sas(&one.client, &other.client, request).await?;
    until_user_verified(&one.client, other.user()?).await?;
    until_user_verified(&other.client, one.user()?).await
}

/// Verifies two devices of different users with each other, by messages to devices.
pub async fn verify_devices(one: &Device, other: &Device) -> Result<()> {
    let pairs = [(one, other), (other, one)];
    for (asking, asked) in pairs {
        let device = secret::until_known(asking, asked).await?;
        ensure!(!device.is_locally_trusted(), "{} is verified already", device.device_id());
    }
    let request = secret::until_known(one, other).await?.request_verification().await.context("requesting")?;
    run_sas(&one.client, &other.client, request).await?;
    for (asking, asked) in pairs {
        until_true("the other's device to be verified", async || {
            secret::find_device(asking, asked).await.is_some_and(|device| device.is_locally_trusted())
        })
        .await?;
    }
    Ok(())
}

async fn until_user_verified(client: &Client, user: &UserId) -> Result<()> {
    until_true(&format!("{user} to be verified"), async || {
        matches!(client.encryption().get_user_identity(user).await, Ok(Some(identity)) if identity.is_verified())
    })
    .await
}

/// Plays both sides of the emoji comparison for a request made by `one`.
async fn run_sas(one: &Client, other: &Client, request: VerificationRequest) -> Result<()> {
    let flow = request.flow_id().to_owned();
    let from = one.user_id().context("not logged in")?;
    let received = until("the verification request to arrive", async || {
        other.encryption().get_verification_request(from, &flow).await
    })
    .await?;
    received.accept().await.context("accepting the request")?;
    until_true("the request to be ready", async || request.is_ready()).await?;

    let ours = request.start_sas().await?.context("the SAS flow did not start")?;
    let theirs = until("the SAS flow to arrive", async || {
        let started = other.encryption().get_verification(from, &flow).await?;
        started.sas()
    })
    .await?;
    theirs.accept().await.context("accepting the SAS flow")?;

    for sas in [&ours, &theirs] {
        until_true("the emoji to be known", async || sas.can_be_presented() || sas.is_cancelled()).await?;
        ensure!(!sas.is_cancelled(), "cancelled: {:?}", sas.cancel_info());
    }
    ensure!(ours.decimals().is_some(), "no short authentication string");
    ensure!(ours.decimals() == theirs.decimals(), "the two sides show different strings");
    ours.confirm().await.context("confirming on the asking side")?;
    // As people do, one after the other: when both confirm at once, the SDK sends its MAC and, from its sync loop, its "done"
    // at the same time, and who gets the "done" first waits for it for ever.
    sleep(BETWEEN_PEOPLE).await;
    theirs.confirm().await.context("confirming on the answering side")?;
    finished(&ours).await?;
    finished(&theirs).await
}

async fn finished(sas: &SasVerification) -> Result<()> {
    until_true("the verification to be done", async || sas.is_done() || sas.is_cancelled()).await?;
    ensure!(sas.is_done(), "cancelled: {:?}", sas.cancel_info());
    Ok(())
}
