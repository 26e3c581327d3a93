//! What krbd and nbd have in common: the kernel numbers their devices, and we keep a record of those
//! that are ours.
//!
//! ```text
//!   intent written ──▶ map ──▶ record written ──▶ intent dropped
//!                       │ failed, or killed half way
//!                       ▼
//!              unmap what was not there before ──▶ intent dropped
//! ```

use std::time::Duration;

use super::KindResult;
use super::record::{Record, Records};
use crate::deadline::Deadline;
use crate::system::{MapRequest, MappedDevice};
use crate::volume::ImageSpec;

/// How long an undo may take when the deadline of what it undoes is over.
const UNDO: Duration = Duration::from_secs(10);

/// A mapper whose devices the kernel numbers.
pub(super) trait Numbered {
    /// Which of the devices are ours.
    fn records(&self) -> Records;

    /// Every device here of this kind, ours or not, and what a record of it would say.
    fn all(&self) -> KindResult<Vec<(MappedDevice, Record)>>;

    /// Maps the image as a device that was not there before, and records it.
    fn map_new(
        &self,
        request: &MapRequest,
        before: &[String],
        deadline: &Deadline,
    ) -> KindResult<MappedDevice>;

    /// Takes a device away; `Busy` where somebody uses it.
    fn remove(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()>;

    /// Maps an image. Nothing is left of a map that failed, and what a crash leaves is found.
    fn map(&self, request: &MapRequest, deadline: &Deadline) -> KindResult<MappedDevice> {
        let records = self.records();
        let before = self.of(&request.image)?.iter().map(name_of).collect::<Vec<_>>();
        let intent = records.begin(&request.image, before.clone())?;
        let mapped = self.map_new(request, &before, deadline);
        if mapped.is_err() {
            self.undo(&request.image, &before, &deadline.for_undo(UNDO));
        }
        Records::done(&intent);
        mapped
    }

    /// A map that was killed may still have gone through in the kernel. A device that does not go
    /// away now is recorded as ours, so that it is collected later.
    fn undo(&self, image: &ImageSpec, before: &[String], deadline: &Deadline) {
        let new =
            |device: &MappedDevice| device.image == *image && !before.contains(&name_of(device));
        let all = self.all().unwrap_or_default();
        for (device, record) in all.into_iter().filter(|(device, _)| new(device)) {
            if let Err(error) = self.release(&device, deadline) {
                tracing::warn!(%error, device = %device.device.display(), "a failed map was not undone");
                let _ = self.records().add(&name_of(&device), &record);
            }
        }
    }

    /// The devices of an image.
    fn of(&self, image: &ImageSpec) -> KindResult<Vec<MappedDevice>> {
        let all = self.all()?.into_iter().map(|(device, _)| device);
        Ok(all.filter(|device| device.image == *image).collect())
    }

    /// The devices that are ours, by their records or as what a begun map has made.
    fn mapped(&self) -> KindResult<Vec<MappedDevice>> {
        let records = self.records();
        let ours = self.all()?.into_iter().filter(|(device, record)| {
            let name = name_of(device);
            records.get(&name).as_ref() == Some(record) || records.is_begun(&device.image, &name)
        });
        Ok(ours.map(|(device, _)| device).collect())
    }

    /// Takes one of our devices away. One that is not ours, or not there any more, is left alone.
    fn unmap(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        let same = |it: &&MappedDevice| {
            it.device == device.device
                && it.client_address == device.client_address
                && it.process == device.process
        };
        let ours = self.mapped()?;
        let Some(found) = ours.iter().find(same) else { return Ok(()) };
        self.release(found, deadline)
    }

    /// Takes a device away, and its record.
    fn release(&self, device: &MappedDevice, deadline: &Deadline) -> KindResult<()> {
        self.remove(device, deadline)?;
        self.records().remove(&name_of(device));
        Ok(())
    }
}

/// `rbd0`.
pub(super) fn name_of(device: &MappedDevice) -> String {
    device.device.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
