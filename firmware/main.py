"""Every boot: the watchdog, the console after a cold boot, one wake, sleep."""

from brim.boards.esp32 import Device

UNPROVISIONED_SLEEP_S = 3600
UNPROVISIONED_CONSOLE_MS = 60000
AFTER_FAULT_SLEEP_S = 900

device = Device()
try:
    if device.identity is None:
        # No identity: no radio and no readings, but a console at every wake.
        from brim.boards.serial_console import serve

        serve(device, UNPROVISIONED_CONSOLE_MS)
        sleep_s = UNPROVISIONED_SLEEP_S
    else:
        if device.cold:
            from brim.boards.serial_console import serve

            serve(device)
        from brim.core.cycle import wake

        sleep_s = wake(device)
except KeyboardInterrupt:
    device.hand_over()
    raise
except Exception as error:
    device.log("fault wake " + type(error).__name__)
    sleep_s = AFTER_FAULT_SLEEP_S
device.deepsleep(sleep_s)
