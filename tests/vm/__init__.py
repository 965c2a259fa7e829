"""Test guests: real Debian virtual machines under libvirt, built, saved, restored and destroyed on this machine."""
