# Bare metal: Debian's general kernel, with the firmware and the drivers that servers need to find their disk.
{
  packages = [ "firmware-bnx2" "firmware-bnx2x" "firmware-misc-nonfree" "firmware-realtek" ];

  kernel = {
    package = "linux-image-amd64";
    keepModules = [
      "drivers/dca" "drivers/edac" "drivers/hid" "drivers/hwmon" "drivers/i2c" "drivers/infiniband" "drivers/input"
      "drivers/iommu" "drivers/message" "drivers/mfd" "drivers/platform" "drivers/rtc" "drivers/scsi" "drivers/usb"
    ];
    initrdModules = [
      "ahci" "sd_mod" "usb_storage" "uas" "xhci_pci"
      "aacraid" "hpsa" "megaraid_sas" "mpi3mr" "mpt3sas" "smartpqi" "virtio_scsi"
    ];
  };
}
