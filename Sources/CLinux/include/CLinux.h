// What the Glibc module of Swift lacks of Linux: batches of datagrams, epoll, TUN, netlink, and the
// macros that take types.
#ifndef CLINUX_H
#define CLINUX_H

// mmsghdr and what takes it are GNU's. _GNU_SOURCE would change other structures too, and then this
// module and those that Foundation brings along don't agree about them.
#include <features.h>
#include <sys/types.h>
#ifndef __USE_GNU
#define __USE_GNU 1
#include <sys/socket.h>
#undef __USE_GNU
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

// TUN_F_USO4 and TUN_F_USO6 of Linux 6.2: rows of UDP datagrams. Older headers lack them.
enum { CLINUX_TUN_USO = 0x20 | 0x40 };
// VIRTIO_NET_HDR_GSO_UDP_L4 of the same.
enum { CLINUX_GSO_UDP = 5 };

// Attaches an open /dev/net/tun to the device `name`, which is made if there is none: IP packets
// with a virtio_net_hdr in front of each, and none of TUN's own (IFF_NO_PI). From then on the
// kernel may leave checksums to us, and give and take rows of segments as one packet, as far as
// it can. 0, or -1 with errno.
static inline int clinux_attach_tun(int file, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    int result = ioctl(file, TUNSETIFF, &request);
    if (result != 0) return result;
    int headerBytes = sizeof(struct virtio_net_hdr);
    result = ioctl(file, TUNSETVNETHDRSZ, &headerBytes);
    if (result != 0) return result;
    unsigned long offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    if (ioctl(file, TUNSETOFFLOAD, offloads | CLINUX_TUN_USO) != 0)
        (void)ioctl(file, TUNSETOFFLOAD, offloads);
    return 0;
}

// Sets a device's MTU and brings it up. 0, or -1 with errno.
static inline int clinux_bring_up(const char *name, int mtu) {
    int handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (handle < 0) return -1;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_mtu = mtu;
    int result = ioctl(handle, SIOCSIFMTU, &request);
    if (result == 0) result = ioctl(handle, SIOCGIFFLAGS, &request);
    if (result == 0) {
        request.ifr_flags |= IFF_UP | IFF_RUNNING;
        result = ioctl(handle, SIOCSIFFLAGS, &request);
    }
    int cause = errno;
    close(handle);
    errno = cause;
    return result;
}

// What there is to know of an Ethernet device: its number, its MAC address (six octets) and its MTU.
// 0, or -1 with errno: ENODEV when there is none of that name, EAFNOSUPPORT when it is no Ethernet.
static inline int clinux_describe_device(
    const char *name, int *index, uint8_t *address, int *mtu
) {
    int handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (handle < 0) return -1;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int result = ioctl(handle, SIOCGIFINDEX, &request);
    if (result == 0) {
        *index = request.ifr_ifindex;
        result = ioctl(handle, SIOCGIFMTU, &request);
    }
    if (result == 0) {
        *mtu = request.ifr_mtu;
        result = ioctl(handle, SIOCGIFHWADDR, &request);
    }
    if (result == 0) {
        memcpy(address, request.ifr_hwaddr.sa_data, 6);
        if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
            errno = EAFNOSUPPORT;
            result = -1;
        }
    }
    int cause = errno;
    close(handle);
    errno = cause;
    return result;
}

// The kernel computes the checksums of what leaves by a virtual cable, as a network card would: else
// they stay undone, and who captures packets at the other end sees half of them. 0, or -1 with
// errno.
static inline int clinux_finish_checksums(const char *name) {
    int handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (handle < 0) return -1;
    struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = 0};
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_data = (char *)&value;
    int result = ioctl(handle, SIOCETHTOOL, &request);
    int cause = errno;
    close(handle);
    errno = cause;
    return result;
}

// The next connection at a listening socket, which does not block. -1 with errno: none.
static inline int clinux_accept(int file) {
    int number = accept(file, NULL, NULL);
    if (number < 0) return number;
    fcntl(number, F_SETFD, FD_CLOEXEC);
    fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK);
    return number;
}

// Reading from the socket fails after so many seconds.
static inline void clinux_limit_waiting(int file, int seconds) {
    struct timeval limit = {.tv_sec = seconds, .tv_usec = 0};
    setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

// The traffic class octet (TOS) that the kernel put beside a datagram; 0 without it.
static inline uint8_t clinux_traffic_class(struct msghdr *message) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_TOS)
            return *(const uint8_t *)CMSG_DATA(part);
        if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_TCLASS) {
            int value;
            memcpy(&value, CMSG_DATA(part), sizeof value);
            return (uint8_t)value;
        }
    }
    return 0;
}

// The octets of one datagram of a batch that was received with UDP_GRO; 0: it is one datagram.
static inline int clinux_segment_bytes(struct msghdr *message) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO) {
            int value;
            memcpy(&value, CMSG_DATA(part), sizeof value);
            return value;
        }
    }
    return 0;
}

// Room that `clinux_put_controls` may take.
enum { CLINUX_CONTROL_BYTES = 64 };

// Writes what goes with a message to `room`: its traffic class (`isV6` says of which protocol),
// and the octets of each datagram when it is a row of them (UDP_SEGMENT); 0: it is one.
static inline void clinux_put_controls(
    struct msghdr *message, void *room, int isV6, uint8_t trafficClass, uint16_t segmentBytes
) {
    int value = trafficClass;
    memset(room, 0, CLINUX_CONTROL_BYTES);
    message->msg_control = room;
    message->msg_controllen = CLINUX_CONTROL_BYTES;
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    part->cmsg_level = isV6 ? IPPROTO_IPV6 : IPPROTO_IP;
    part->cmsg_type = isV6 ? IPV6_TCLASS : IP_TOS;
    part->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(part), &value, sizeof value);
    size_t used = CMSG_SPACE(sizeof value);
    if (segmentBytes) {
        part = (struct cmsghdr *)((char *)room + used);
        part->cmsg_level = SOL_UDP;
        part->cmsg_type = UDP_SEGMENT;
        part->cmsg_len = CMSG_LEN(sizeof segmentBytes);
        memcpy(CMSG_DATA(part), &segmentBytes, sizeof segmentBytes);
        used += CMSG_SPACE(sizeof segmentBytes);
    }
    message->msg_controllen = used;
}

// CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, and FALLOC_FL_KEEP_SIZE with FALLOC_FL_PUNCH_HOLE: their
// headers are GNU's, or quarrel with each other.
enum {
    CLINUX_NEW_MOUNTS = 0x00020000,
    CLINUX_NEW_PROCESSES = 0x20000000,
    CLINUX_NEW_NETWORK = 0x40000000,
    CLINUX_PUNCH_HOLE = 0x01 | 0x02
};

// From now on this process has namespaces of its own; a new one for processes begins with its next
// child. 0, or -1 with errno.
static inline int clinux_unshare(int namespaces) { return (int)syscall(SYS_unshare, namespaces); }

// SIGKILL comes when the process that started this one is gone, however it went.
static inline int clinux_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL); }

// What is mounted from now on is seen in this mount namespace only. 0, or -1 with errno.
static inline int clinux_keep_mounts_private(void) {
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

// Gives the memory of a part of a file back to the kernel; the file stays as long as it is.
static inline int clinux_punch_hole(int file, int64_t offset, int64_t length) {
    return (int)syscall(SYS_fallocate, file, CLINUX_PUNCH_HOLE, offset, length);
}

#endif
