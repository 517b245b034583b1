"""Devices behind VMBus channels: each a module, each a `harness.hyperv.channel.Device`."""
