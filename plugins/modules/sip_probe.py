#!/usr/bin/python

# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sip_probe
short_description: Ask a PBX something over SIP and say what came back
version_added: 0.1.0
author:
  - The sipguard.pbx contributors (@sipguard)
description:
  - Sends one SIP request to a PBX, from the host on which the task runs, and tells an answer from silence, refusal and failure.
  - A request can look like that of a phone, a trunk or a scanner, so that a firewall's judgement of each can be seen.
  - No request ever holds credentials or changes anything on the PBX. A REGISTER asks for bindings and makes none.
    A call that rings is cancelled, a call that is answered is ended.
  - Several O(questions) are asked with one task, many at the same time.
options:
  host: &host
    description: The PBX, an address or a name. The first address of a name is asked.
    type: str
  family: &family
    description: Which address of a name is meant.
    type: str
    choices: [any, ipv4, ipv6]
    default: any
  port: &port
    description: Port of the PBX. Unless given, 5060, and 5061 with O(transport=tls).
    type: int
  transport: &transport
    description: How the request travels.
    type: str
    choices: [udp, tcp, tls]
    default: udp
  profile: &profile
    description:
      - Who is imitated. It decides what is not said otherwise.
      - V(phone) sends a REGISTER with the User-Agent of a real phone.
      - V(trunk) sends OPTIONS as a provider's gateway does, with a From of its own and without a TLS server name.
      - V(scanner) sends OPTIONS to extension 100 as C(svmap) of sipvicious sends it, User-Agent friendly-scanner.
      - Where the sources of such requests are learned, the host that asks is learned too. C(sipguard unban) on the PBX takes it out again.
    type: str
    choices: [phone, trunk, scanner]
  method: &method
    description: The request's method. Unless given, C(REGISTER) as a phone and C(OPTIONS) otherwise. C(INVITE) needs O(user).
    type: str
    choices: [OPTIONS, REGISTER, INVITE]
  domain: &domain
    description: The domain that the request names. Unless given, it names O(host).
    type: str
  user: &user
    description:
      - Whose bindings a REGISTER asks for, whom an INVITE calls, in front of the domain in OPTIONS.
      - Unless given, V(sipguard) in a REGISTER, V(100) as a scanner, and nobody otherwise.
    type: str
  user_agent: &user_agent
    description: The User-Agent header. An empty one leaves the header out. Unless given, that of the profile.
    type: str
  source: &source
    description: Address of this host to ask from. Unless given, the kernel chooses.
    type: str
  source_port: &source_port
    description: Port to ask from. V(0) leaves it to the kernel.
    type: int
    default: 0
  timeout: &timeout
    description:
      - Seconds to wait, for the connection and the answer together.
      - Over UDP the request is repeated meanwhile, as RFC 3261 has it.
    type: float
    default: 3
  tls_verify: &tls_verify
    description:
      - Whether the PBX needs a certificate that this host trusts, and a TLS version and ciphers of today.
      - The question is whether somebody answers, so it need not.
    type: bool
    default: false
  server_name: &server_name
    description:
      - The server name (SNI) that is sent in the clear with O(transport=tls). An empty one sends none.
      - Unless given, O(domain), and none as a trunk or a scanner.
    type: str
  expect: &expect
    description:
      - What has to come back. The module fails otherwise, and says what came instead.
      - V(answer) is any SIP response, a refusal such as 401 as well.
      - V(silence) is nothing but keep-alives. A reset or an ICMP error is not silence, since it tells a scanner that somebody is there.
    type: str
    choices: [any, answer, silence]
    default: any
  questions:
    description:
      - Several questions, each with the options above, in place of one. The options beside this one are not used then.
      - At most 200.
    type: list
    elements: dict
    suboptions:
      host:
        description: As above.
        type: str
        required: true
      family: *family
      port: *port
      transport: *transport
      profile: *profile
      method: *method
      domain: *domain
      user: *user
      user_agent: *user_agent
      source: *source
      source_port: *source_port
      timeout: *timeout
      tls_verify: *tls_verify
      server_name: *server_name
      expect: *expect
      round:
        description: Questions of one round are asked at the same time, rounds one after the other in the order of their numbers.
        type: int
        default: 1
attributes:
  check_mode:
    description: Can run in check mode. It only asks, so it does the same.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
  idempotent:
    description: It never changes anything.
    support: full
  platform:
    description: Hosts it runs on. It needs no root.
    support: full
    platforms: posix
notes:
  - Asterisk logs requests of senders it does not know, and fail2ban counts them. Have the host that asks among those that fail2ban ignores.
seealso:
  - module: sipguard.pbx.sipguard_info
"""

EXAMPLES = r"""
- name: Does the PBX answer a phone?
  sipguard.pbx.sip_probe:
    host: pbx1.example.com
    profile: phone
    domain: tel.example.com
    expect: answer
  delegate_to: localhost

- name: Is it silent towards scanners, over UDP and TCP?
  sipguard.pbx.sip_probe:
    questions:
      - {host: 192.0.2.1, profile: scanner, expect: silence}
      - {host: 192.0.2.1, profile: scanner, expect: silence, transport: tcp}
  delegate_to: stranger.example.net

- name: How long does an answer over TLS take?
  sipguard.pbx.sip_probe:
    host: 2001:db8::1
    transport: tls
    domain: tel.example.com
    tls_verify: true
  register: asked

- name: Show it
  ansible.builtin.debug:
    msg: "{{ asked.status }} {{ asked.reason }} after {{ asked.latency_ms }} ms"
  when: asked.answered
"""

RETURN = r"""
answered: &answered
  description: Whether a SIP response to the request came, whatever its status.
  returned: without questions
  type: bool
silent: &silent
  description: Whether nothing came back, keep-alives aside.
  returned: without questions
  type: bool
outcome: &outcome
  description:
    - V(answered), a SIP response to this very request came.
    - V(silent), the request was sent and nothing came back.
    - V(timeout), nobody answered the TCP or TLS connection.
    - V(refused), ICMP port unreachable, or a reset in answer to the connection.
    - V(unreachable), no way there, or another ICMP error.
    - V(closed), the connection was ended instead of an answer.
    - V(tls_failed), there was an answer, but no TLS connection came of it.
    - V(unrelated), something came that is no response to this request.
  returned: without questions
  type: str
  sample: answered
status: &status
  description: The status of the answer, null when there was none. Of a call that rings it is 180 or 183.
  returned: without questions
  type: int
  sample: 401
reason: &reason
  description: The reason phrase of the answer, without control characters.
  returned: without questions
  type: str
  sample: Unauthorized
latency_ms: &latency_ms
  description: Milliseconds from the first request to the first answer. A connection is made before.
  returned: without questions
  type: float
  sample: 1.732
error: &error
  description: More about an outcome other than V(answered) and V(silent), where there is more to say.
  returned: without questions
  type: str
  sample: Connection refused
source: &source
  description: The address of this host that was asked from, null when there is no way to the PBX.
  returned: without questions
  type: str
  sample: 198.51.100.7
source_port: &source_port
  description: The port that was asked from, null when there was no connection.
  returned: without questions
  type: int
  sample: 40112
received: &received
  description: The address from which the PBX has seen the request come, as its answer says.
  returned: without questions
  type: str
  sample: 203.0.113.9
rport: &rport
  description: The port from which the PBX has seen the request come.
  returned: without questions
  type: int
  sample: 40112
server: &server
  description: What the PBX calls itself (the header Server or User-Agent), without control characters.
  returned: without questions
  type: str
  sample: Asterisk PBX 22.5.2
request: &request
  description: The first line of the request.
  returned: without questions
  type: str
  sample: REGISTER sip:tel.example.com SIP/2.0
answer: &answer
  description: The first line of the answer.
  returned: without questions
  type: str
  sample: SIP/2.0 401 Unauthorized
profile: &profile
  description: Who was imitated.
  returned: without questions
  type: str
  sample: phone
method: &method
  description: The method that was used.
  returned: without questions
  type: str
  sample: REGISTER
transport: &transport
  description: The transport that was used.
  returned: without questions
  type: str
  sample: udp
host: &host
  description: The PBX as it was named.
  returned: without questions
  type: str
  sample: pbx1.example.com
address: &address
  description: The address that was asked.
  returned: without questions
  type: str
  sample: 192.0.2.1
port: &port
  description: The port that was asked.
  returned: without questions
  type: int
  sample: 5060
sources:
  description: The addresses from which the PBX has seen the questions come, and those of this host where no answer says so.
  returned: with questions
  type: list
  elements: str
  sample: [203.0.113.9]
answers:
  description: What came of each question, in their order.
  returned: with questions
  type: list
  elements: dict
  contains:
    answered: *answered
    silent: *silent
    outcome: *outcome
    status: *status
    reason: *reason
    latency_ms: *latency_ms
    error: *error
    source: *source
    source_port: *source_port
    received: *received
    rport: *rport
    server: *server
    request: *request
    answer: *answer
    profile: *profile
    method: *method
    transport: *transport
    host: *host
    address: *address
    port: *port
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._sip.errors import SipguardError
from ..module_utils._sip.probe import ask_all, read_question, result, sources, unmet

QUESTION: dict[str, dict[str, Any]] = dict(
    host=dict(type="str"),
    family=dict(type="str", default="any", choices=["any", "ipv4", "ipv6"]),
    port=dict(type="int"),
    transport=dict(type="str", default="udp", choices=["udp", "tcp", "tls"]),
    profile=dict(type="str", choices=["phone", "trunk", "scanner"]),
    method=dict(type="str", choices=["OPTIONS", "REGISTER", "INVITE"]),
    domain=dict(type="str"),
    user=dict(type="str"),
    user_agent=dict(type="str"),
    source=dict(type="str"),
    source_port=dict(type="int", default=0),
    timeout=dict(type="float", default=3),
    tls_verify=dict(type="bool", default=False),
    server_name=dict(type="str"),
    expect=dict(type="str", default="any", choices=["any", "answer", "silence"]),
)


def main() -> None:
    """Options -> questions -> requests -> what came back."""
    several = dict(QUESTION, host=dict(type="str", required=True), round=dict(type="int", default=1))
    module = AnsibleModule(
        argument_spec=dict(QUESTION, questions=dict(type="list", elements="dict", options=several)),
        mutually_exclusive=[("host", "questions")],
        required_one_of=[("host", "questions")],
        supports_check_mode=True,
    )
    entries = module.params["questions"]
    try:
        if entries is None:
            questions = [read_question(module.params)]
        else:
            questions = [read_question(entry, f"questions[{index}].") for index, entry in enumerate(entries)]
        findings = ask_all(questions)
    except SipguardError as error:
        module.fail_json(msg=str(error))
    answers = [result(question, finding) for question, finding in zip(questions, findings)]
    for question, finding in zip(questions, findings):
        for warning in finding.warnings:
            module.warn(f"{question}: {warning}")
    wrong = [sentence for pair in zip(questions, findings) if (sentence := unmet(*pair))]
    returned = answers[0] if entries is None else {"answers": answers, "sources": sources(findings)}
    if wrong:
        module.fail_json(msg="; ".join(wrong), **returned)
    module.exit_json(changed=False, **returned)


if __name__ == "__main__":
    main()
