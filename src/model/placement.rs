//! Placement's arithmetic for memory (placement: objects/allocation.py `_check_capacity_exceeded`; shared/facts.md 1).

use crate::units::Mib;

/// A provider's inventory of `MEMORY_MB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inventory {
    /// The host's memory; also the largest single allocation.
    pub total: Mib,
    /// What is not for instances.
    pub reserved: Mib,
    /// Its allocation ratio.
    pub allocation_ratio: f64,
}

/// Why an allocation is refused. The scheduler turns each into `No valid host was found.`
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The sum would be above the capacity.
    #[error(
        "over capacity: {used} of {capacity} MiB are allocated and {asked} more were asked for"
    )]
    OverCapacity {
        /// Allocated so far.
        used: Mib,
        /// Asked for.
        asked: Mib,
        /// (total - reserved) * ratio, cut to whole MiB for display.
        capacity: u64,
    },
    /// The single allocation is above the host's memory, or zero.
    #[error("{asked} is not between 1MiB and the host's {total}")]
    Unit {
        /// Asked for.
        asked: Mib,
        /// The host's memory.
        total: Mib,
    },
}

impl Inventory {
    /// Returns the capacity in MiB, as the float that Placement compares with.
    #[expect(
        clippy::cast_precision_loss,
        reason = "Placement computes in a float as well, and sizes are far below 2^52"
    )]
    pub fn capacity_mib(self) -> f64 {
        (self.total.0 as f64 - self.reserved.0 as f64) * self.allocation_ratio
    }

    /// Decides whether `asked` more fits where `used` is allocated.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "see capacity_mib; for display only"
    )]
    pub fn check(self, used: Mib, asked: Mib) -> Result<(), Refusal> {
        if asked.0 == 0 || asked > self.total {
            return Err(Refusal::Unit {
                asked,
                total: self.total,
            });
        }
        let capacity = self.capacity_mib();
        if capacity < (used + asked).0 as f64 {
            return Err(Refusal::OverCapacity {
                used,
                asked,
                capacity: capacity.max(0.0) as u64,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(total: u64, reserved: u64, allocation_ratio: f64) -> Inventory {
        Inventory {
            total: Mib(total),
            reserved: Mib(reserved),
            allocation_ratio,
        }
    }

    fn fits(inventory: Inventory, flavor: u64) -> u64 {
        (0..10_000)
            .take_while(|count| inventory.check(Mib(count * flavor), Mib(flavor)).is_ok())
            .count() as u64
    }

    #[test]
    fn a_real_placement_drew_the_same_line() {
        // Observed with openstack-placement 11.0.1: T=32105 r=512 ratio 0.98, 30961 is 204 and one more 409.
        let seen = inventory(32105, 512, 0.98);
        assert!(seen.check(Mib(0), Mib(30961)).is_ok());
        assert!(matches!(
            seen.check(Mib(0), Mib(30962)),
            Err(Refusal::OverCapacity { .. })
        ));
    }

    #[test]
    fn the_incident_and_its_cure_by_number_of_workers() {
        assert_eq!(fits(inventory(32768, 512, 0.98), 4096), 7);
        assert_eq!(fits(inventory(32768, 1024, 0.98), 4096), 7);
        assert_eq!(fits(inventory(32768, 8192, 0.98), 4096), 5);
    }

    #[test]
    fn reserving_more_than_there_is_refuses_everything() {
        assert!(inventory(1024, 4096, 1.0).check(Mib(0), Mib(1)).is_err());
        assert!(matches!(
            inventory(1024, 0, 16.0).check(Mib(0), Mib(2048)),
            Err(Refusal::Unit { .. })
        ));
    }
}
