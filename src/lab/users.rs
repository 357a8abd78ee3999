//! Who else uses a lab's files.

use super::{Drivers, Found, LabError};
use crate::image::qcow2;
use crate::storage::Users;

/// Finds out which files of this machine the domains use that are not this lab's: those that libvirt names for them, and
/// what is below their disks. `virt-clone` and virt-manager make disks that lie on a lab's.
pub(crate) async fn users(drivers: &Drivers, found: &Found) -> Result<Users, LabError> {
    let mut users = Users::default();
    for others in drivers.hypervisor.inventory.files().await? {
        if found
            .hosts
            .iter()
            .any(|host| host.domain.uuid == others.uuid)
        {
            continue;
        }
        let user = format!("domain {}", others.domain);
        for file in &others.files {
            users.note(file, &user);
            // What is no qcow2, or cannot be read, has nothing below it that could be known. Pipes and devices are not opened.
            for below in qcow2::files_below(file) {
                users.note(&below, &user);
            }
        }
    }
    Ok(users)
}
