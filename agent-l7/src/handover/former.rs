//! The process before, which finishes what could not move. What it still has counts here, so that limits
//! hold for both together, and totals stay whole.

use crate::plane::Plane;
use crate::steer::WeakDoor;

use super::Channel;
use super::format::Word;

#[derive(Debug)]
pub struct Former(Option<Channel>);

impl Former {
    /// Hears what it keeps, before anybody is accepted here.
    pub(super) fn new(channel: Channel, speaks: bool, plane: &mut Plane) -> Self {
        let mut former = Self(speaks.then_some(channel));
        if let Some(remaining) = former.hear() {
            plane.reckon_with(&remaining);
        }
        former
    }

    /// Hears it to its end. Blocks for as long as it lives.
    pub fn follow(mut self, door: &WeakDoor) {
        if let Some(channel) = &self.0
            && channel.wait_for_ever().is_err()
        {
            self.0 = None;
        }
        while let Some(remaining) = self.hear() {
            door.with(|plane| plane.reckon_with(&remaining));
        }
        door.with(Plane::reckon_with_nobody);
    }

    fn hear(&mut self) -> Option<super::format::Remaining> {
        match self.0.as_ref()?.hear() {
            Ok((Word::Remaining(remaining), _)) => Some(remaining),
            _ => {
                self.0 = None;
                None
            }
        }
    }
}
