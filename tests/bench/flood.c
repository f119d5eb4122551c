/*
 * Copyright (c) 2026 The sipguard.pbx contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Guesses passwords: REGISTER over UDP and IPv4 at a steady rate from many addresses, and for each challenge that
 * comes back a second REGISTER with a wrong answer to it. What is sent in all depends on the rate alone.
 *
 *   flood NETWORK BLOCKS FIRST COUNT DESTINATION DOMAIN RATE SECONDS
 *     NETWORK, BLOCKS  where the sources are, so many blocks of 256 addresses, all of them local here; source by source
 *                      takes the next block, and after the last one the next address of the first
 *     FIRST, COUNT     the first source and how many there are
 *     DOMAIN           what the Request-URI, From and To name
 *     RATE             packets a second
 *
 * Output: SENT CHALLENGES, the packets sent and the challenges that came back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PORT 5062		/* ours; the PBX listens on 5060 */
#define SIZE 4096
#define BUFFER (4 << 20)

static const char *domain;
static uint32_t network, blocks, first, count;
static struct sockaddr_in pbx = { .sin_family = AF_INET };
static int fd;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void send_from(uint32_t address, char *data, size_t length)
{
	union {
		char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { data, length };
	struct msghdr message = {
		.msg_name = &pbx, .msg_namelen = sizeof(pbx), .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	((struct in_pktinfo *)CMSG_DATA(c))->ipi_spec_dst.s_addr = htonl(address);
	if (sendmsg(fd, &message, 0) < 0 && errno != ENOBUFS)
		die("sendmsg");
}

/* Request `number`, again with an answer to the challenge where there is one: all else follows from the number. */
static void send_register(uint32_t number, const char *answer)
{
	uint32_t place = first + number % count, user = 200 + number % 800;
	uint32_t address = network + place % blocks * 256 + 1 + place / blocks;
	struct in_addr source = { htonl(address) };
	char text[SIZE], host[INET_ADDRSTRLEN];
	int length;

	inet_ntop(AF_INET, &source, host, sizeof(host));
	length = snprintf(text, sizeof(text),
		"REGISTER sip:%s SIP/2.0\r\n"
		"Via: SIP/2.0/UDP %s:%d;branch=z9hG4bK%u-%d;rport\r\n"
		"Max-Forwards: 70\r\n"
		"From: <sip:%u@%s>;tag=%u\r\n"
		"To: <sip:%u@%s>\r\n"
		"Call-ID: %u-flood@%s\r\n"
		"CSeq: %d REGISTER\r\n"
		"Contact: <sip:%u@%s:%d>\r\n"
		"User-Agent: Yealink SIP-T46U 108.86.0.90\r\n"
		"%s"
		"Expires: 3600\r\n"
		"Content-Length: 0\r\n\r\n",
		domain, host, PORT, number, *answer ? 2 : 1, user, domain, number, user, domain, number, host,
		*answer ? 2 : 1, user, host, PORT, answer);
	send_from(address, text, length);
}

/* The value of NAME="value" in text, into value; empty if it is not there. */
static void quoted(const char *text, const char *name, char *value, size_t size)
{
	const char *from = strstr(text, name), *to;

	*value = 0;
	if (!from)
		return;
	from += strlen(name);
	to = strchr(from, '"');
	if (to && (size_t)(to - from) < size)
		snprintf(value, size, "%.*s", (int)(to - from), from);
}

/* Takes what has come back up to the next challenge and answers that. */
static int guess(void)
{
	char text[SIZE], realm[256], nonce[256], opaque[256], answer[SIZE / 2], *id;
	uint32_t number;
	ssize_t length;

	while ((length = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
		text[length] = 0;
		if (strncmp(text, "SIP/2.0 401", 11) || !strstr(text, "CSeq: 1 "))
			continue;
		id = strstr(text, "Call-ID: ");
		if (!id)
			continue;
		number = strtoul(id + 9, NULL, 10);
		quoted(text, "realm=\"", realm, sizeof(realm));
		quoted(text, "nonce=\"", nonce, sizeof(nonce));
		quoted(text, "opaque=\"", opaque, sizeof(opaque));
		snprintf(answer, sizeof(answer),
			"Authorization: Digest username=\"%u\", realm=\"%s\", nonce=\"%s\", opaque=\"%s\", "
			"uri=\"sip:%s\", response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5\r\n",
			200 + number % 800, realm, nonce, opaque, domain);
		send_register(number, answer);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	const struct timespec pause = { 0, 1000000 };
	int size = BUFFER;
	unsigned long sent = 0, fresh = 0;
	double start, passed, rate, seconds;
	struct in_addr source;

	if (argc != 9 || inet_pton(AF_INET, argv[1], &source) != 1 || inet_pton(AF_INET, argv[5], &pbx.sin_addr) != 1)
		return 2;
	network = ntohl(source.s_addr);
	blocks = atoi(argv[2]);
	first = atoi(argv[3]);
	count = atoi(argv[4]);
	domain = argv[6];
	rate = atof(argv[7]);
	seconds = atof(argv[8]);
	pbx.sin_port = htons(5060);
	if (!blocks || !count || rate <= 0 || seconds <= 0)
		return 2;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		die("setsockopt");
	if (bind(fd, (void *)&here, sizeof(here)))
		die("bind");
	for (start = now(); (passed = now() - start) < seconds; nanosleep(&pause, NULL)) {
		for (; sent < rate * passed; sent++)
			if (!guess())
				send_register(fresh++, "");
	}
	printf("%lu %lu\n", sent, sent - fresh);
	return 0;
}
