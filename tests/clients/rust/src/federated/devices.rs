//! Devices that come and go: who gets the keys of a message.

use anyhow::{Context, Result, ensure};
use client_scenario::{
    device::{Device, PASSWORD},
    report::{Abort, Report, until_true},
    secret,
};
use matrix_sdk::ruma::{OwnedDeviceId, RoomId, api::client::uiaa};

use crate::Party;

/// `owner` gets a second device, loses it and gets another one, which is returned; `other`, on the other server, has to
/// hear of each change and to share keys accordingly.
pub async fn replace_device(report: &mut Report, room: &RoomId, owner: &Party, other: &Party) -> Result<Device, Abort> {
    let (whose, writer) = (owner.name, other.name);
    let mut tablet = report.must(&format!("{whose} logs in on a tablet"), owner.log_in("tablet")).await?;
    report.must("start the tablet's sliding sync", tablet.start_sliding_sync()).await?;
    report
        .step(
            &format!("{writer}'s client hears of the tablet and writes for it"),
            write_for(other, room, owner, &tablet),
        )
        .await;
    let lost = report.step(&format!("{whose}'s tablet is removed"), remove(owner, &tablet)).await;
    if let Some(lost) = lost {
        let silent = write_without(other, room, owner, (&tablet, lost));
        report.step(&format!("{writer}'s client sends no keys to the removed tablet"), silent).await;
    }
    tablet.stop_sync().await;

    let mut desk = report.must(&format!("{whose} logs in on a desk"), owner.log_in("desk")).await?;
    desk.start_classic_sync();
    report
        .step(&format!("{writer}'s client hears of the desk and writes for it"), write_for(other, room, owner, &desk))
        .await;
    let readers = [(writer, &other.phone), (whose, &owner.phone)];
    let text = format!("from {whose}'s desk");
    report
        .step(&format!("{whose}'s desk writes"), async {
            secret::until_ready(&desk, room, &other.phone).await?;
            secret::tell(&desk, room, &text, &readers).await
        })
        .await;
    Ok(desk)
}

/// Waits until the writer's client knows the device, without asking for it, and writes what the device can read.
async fn write_for(writer: &Party, room: &RoomId, owner: &Party, device: &Device) -> Result<()> {
    let known = secret::until_known(&writer.phone, device).await?;
    writer.wire.clear();
    let text = format!("welcome, {}", known.device_id());
    secret::tell(&writer.phone, room, &text, &[("the new device", device), (owner.name, &owner.phone)]).await?;
    ensure!(is_addressed(writer, known.device_id().as_str()), "no keys were sent to {}", known.device_id());
    Ok(())
}

/// Whether the client of this party has sent a message to this device of anyone.
fn is_addressed(writer: &Party, device: &str) -> bool {
    writer.wire.has(&format!("\"{device}\":{{"))
}

/// Alice takes the device away from her phone, Bob logs out on the device.
async fn remove(owner: &Party, device: &Device) -> Result<OwnedDeviceId> {
    let id = device.client.device_id().context("no device id")?.to_owned();
    if owner.name == "bob" {
        device.client.matrix_auth().logout().await.context("logging out")?;
        return Ok(id);
    }
    let deleted = owner.phone.client.delete_devices(std::slice::from_ref(&id), None).await;
    if let Err(error) = deleted {
        let session = error.as_uiaa_response().context("deleting the device")?.session.clone();
        let user = uiaa::MatrixUserIdentifier::new(owner.phone.user()?.to_string());
        let mut password = uiaa::Password::new(uiaa::UserIdentifier::Matrix(user), PASSWORD.to_owned());
        password.session = session;
        let auth = uiaa::AuthData::Password(password);
        let ids = std::slice::from_ref(&id);
        owner.phone.client.delete_devices(ids, Some(auth)).await.context("deleting the device with the password")?;
    }
    Ok(id)
}

/// Waits until the writer's client knows the device no more, and writes without sending it the keys.
async fn write_without(
    writer: &Party,
    room: &RoomId,
    owner: &Party,
    (device, lost): (&Device, OwnedDeviceId),
) -> Result<()> {
    until_true(&format!("{lost} to be forgotten"), async || secret::find_device(&writer.phone, device).await.is_none())
        .await?;
    writer.wire.clear();
    secret::tell(&writer.phone, room, &format!("without {lost}"), &[(owner.name, &owner.phone)]).await?;
    let phone = owner.phone.client.device_id().context("no device id")?;
    ensure!(is_addressed(writer, phone.as_str()), "the message was not encrypted with a new key");
    ensure!(!is_addressed(writer, lost.as_str()), "keys were sent to {lost}");
    Ok(())
}
