// libpcap, for capture files in both formats, for writing them, and for capturing on a device.
#pragma once
#include <pcap/pcap.h>
