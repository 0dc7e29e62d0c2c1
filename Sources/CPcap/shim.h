// libpcap, for capture files (offline) in both formats and for writing them.
#pragma once
#include <pcap/pcap.h>
