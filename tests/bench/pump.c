/*
 * Copyright (c) 2026 The sipguard.pbx contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Sends UDP datagrams from one network namespace to another and times them. One process owns the sockets of
 * every variant, so the variants take turns within microseconds of each other and see the same machine.
 *
 *   pump CPU ROUNDS BATCH < VARIANTS
 *
 * A line of VARIANTS: NAME SENDER_NETNS RECEIVER_NETNS FAMILY SOURCE SOURCE_PORT DESTINATION PORT TRAFFIC PAYLOAD_FILE
 *   TRAFFIC  flow      every datagram from SOURCE and SOURCE_PORT
 *            fresh     every datagram from an address of its own, counted up from SOURCE (which must be local there)
 *
 * A line of output: NAME ROUND SENT RECEIVED SEND_NS RECEIVE_NS
 *   SEND_NS     from the first send to the return of the last; on a veth the receiving host's whole network stack,
 *               netfilter included, runs within it, up to the socket's queue or the drop
 *   RECEIVE_NS  taking out of that queue what arrived
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_VARIANTS 64
#define MAX_BATCH 256
#define MAX_PAYLOAD 2048

struct variant {
	char name[64];
	int family, fresh, sender, receiver;
	size_t length;
	char payload[MAX_PAYLOAD];
	struct in6_addr next;		/* last 4 bytes count up; an IPv4 address sits in them */
};

static struct variant variants[MAX_VARIANTS];
static struct mmsghdr out[MAX_BATCH], in[MAX_BATCH];
static struct iovec out_iov[MAX_BATCH], in_iov[MAX_BATCH];
static char in_data[MAX_BATCH][MAX_PAYLOAD];
static char control[MAX_BATCH][CMSG_SPACE(sizeof(struct in6_pktinfo))] __attribute__((aligned(8)));

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int open_in(const char *netns, int family)
{
	char path[256];
	int ns, fd, size = 8 << 20, yes = 1;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET))
		die(path);
	close(ns);
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
		die("setsockopt");
	return fd;
}

static socklen_t address(int family, const char *text, int port, struct sockaddr_storage *sa)
{
	struct sockaddr_in *a4 = (void *)sa;
	struct sockaddr_in6 *a6 = (void *)sa;

	memset(sa, 0, sizeof(*sa));
	sa->ss_family = family;
	if (family == AF_INET)
		a4->sin_port = htons(port);
	else
		a6->sin6_port = htons(port);
	if (inet_pton(family, text, family == AF_INET ? (void *)&a4->sin_addr : (void *)&a6->sin6_addr) != 1) {
		fprintf(stderr, "not an address: %s\n", text);
		exit(1);
	}
	return family == AF_INET ? sizeof(*a4) : sizeof(*a6);
}

static void set_source(struct variant *v, int i)
{
	struct msghdr *m = &out[i].msg_hdr;
	struct cmsghdr *c;
	uint32_t low;

	m->msg_control = control[i];
	m->msg_controllen = v->family == AF_INET ? CMSG_SPACE(sizeof(struct in_pktinfo))
						 : CMSG_SPACE(sizeof(struct in6_pktinfo));
	memset(control[i], 0, sizeof(control[i]));
	c = CMSG_FIRSTHDR(m);
	if (v->family == AF_INET) {
		struct in_pktinfo *p = (void *)CMSG_DATA(c);

		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(*p));
		memcpy(&p->ipi_spec_dst, &v->next.s6_addr[12], 4);
	} else {
		struct in6_pktinfo *p = (void *)CMSG_DATA(c);

		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(*p));
		p->ipi6_addr = v->next;
	}
	memcpy(&low, &v->next.s6_addr[12], 4);
	low = htonl(ntohl(low) + 1);
	memcpy(&v->next.s6_addr[12], &low, 4);
}

static void run(struct variant *v, int round, int batch)
{
	int sent = 0, received = 0, n;
	int64_t start, between, end;

	for (n = 0; n < batch; n++) {
		out_iov[n] = (struct iovec){ v->payload, v->length };
		memset(&out[n], 0, sizeof(out[n]));
		out[n].msg_hdr.msg_iov = &out_iov[n];
		out[n].msg_hdr.msg_iovlen = 1;
		if (v->fresh)
			set_source(v, n);
		in_iov[n] = (struct iovec){ in_data[n], MAX_PAYLOAD };
		memset(&in[n], 0, sizeof(in[n]));
		in[n].msg_hdr.msg_iov = &in_iov[n];
		in[n].msg_hdr.msg_iovlen = 1;
	}
	start = now();
	while (sent < batch) {
		n = sendmmsg(v->sender, out + sent, batch - sent, 0);
		if (n < 0) {
			/* a port that refuses answers with ICMP: the error belongs to an earlier datagram */
			if (errno == ECONNREFUSED || errno == EINTR)
				continue;
			die("sendmmsg");
		}
		sent += n;
	}
	between = now();
	while ((n = recvmmsg(v->receiver, in, batch, MSG_DONTWAIT, NULL)) > 0)
		received += n;
	end = now();
	printf("%s %d %d %d %lld %lld\n", v->name, round, sent, received,
	       (long long)(between - start), (long long)(end - between));
}

static int read_variant(struct variant *v, char *line)
{
	char from[64], to[64], source[64], destination[64], traffic[16], file[256];
	int family, sport, port, fd;
	struct sockaddr_storage sa;
	socklen_t length;
	ssize_t n;

	if (sscanf(line, "%63s %63s %63s %d %63s %d %63s %d %15s %255s",
		   v->name, from, to, &family, source, &sport, destination, &port, traffic, file) != 10) {
		fprintf(stderr, "not a variant: %s\n", line);
		exit(1);
	}
	v->family = family == 6 ? AF_INET6 : AF_INET;
	v->fresh = !strcmp(traffic, "fresh");

	fd = open(file, O_RDONLY);
	if (fd < 0 || (n = read(fd, v->payload, MAX_PAYLOAD)) <= 0)
		die(file);
	close(fd);
	v->length = n;

	v->receiver = open_in(to, v->family);
	length = address(v->family, destination, port, &sa);
	if (bind(v->receiver, (void *)&sa, length))
		die("bind receiver");

	v->sender = open_in(from, v->family);
	if (v->fresh) {
		length = address(v->family, source, 0, &sa);
		if (v->family == AF_INET)
			memcpy(&v->next.s6_addr[12], &((struct sockaddr_in *)&sa)->sin_addr, 4);
		else
			v->next = ((struct sockaddr_in6 *)&sa)->sin6_addr;
		length = address(v->family, v->family == AF_INET ? "0.0.0.0" : "::", sport, &sa);
	} else {
		length = address(v->family, source, sport, &sa);
	}
	if (bind(v->sender, (void *)&sa, length))
		die("bind sender");
	length = address(v->family, destination, port, &sa);
	if (connect(v->sender, (void *)&sa, length))
		die("connect");
	return 1;
}

int main(int argc, char **argv)
{
	int cpu, rounds, batch, count = 0, round, i, order[MAX_VARIANTS];
	char line[1024];
	cpu_set_t set;

	if (argc != 4)
		return 2;
	cpu = atoi(argv[1]);
	rounds = atoi(argv[2]);
	batch = atoi(argv[3]);
	if (batch < 1 || batch > MAX_BATCH)
		return 2;
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			die("sched_setaffinity");
	}
	while (count < MAX_VARIANTS && fgets(line, sizeof(line), stdin))
		if (line[0] != '\n')
			count += read_variant(&variants[count], line);
	srand(1);
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < count; i++)
			order[i] = i;
		for (i = count - 1; i > 0; i--) {
			int j = rand() % (i + 1), t = order[i];

			order[i] = order[j];
			order[j] = t;
		}
		for (i = 0; i < count; i++)
			run(&variants[order[i]], round, batch);
	}
	return 0;
}
