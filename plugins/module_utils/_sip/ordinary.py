# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ordinary traffic, to hold a pattern against: what real products call themselves, and whole messages they send.

A build number here is an example of its family: firmware changes, the way a maker writes the header hardly does.
Builds that scanners are known to spoof are left to the preset ``aggressive``; their neighbours stand here.
``source`` names where that form can be seen. ``MAKERS`` are the names such values begin with, whatever the build.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GENERIC", "GROUPS", "MAKERS", "MESSAGES", "USER_AGENTS", "Group"]


class Group(NamedTuple):
    """User-Agent values of one kind of product, and where their form is documented."""

    kind: str
    source: str
    values: tuple[str, ...]


GROUPS: tuple[Group, ...] = (
    Group(
        "desk phones",
        "fusionpbx/fusionpbx#1067 and antirek/sip-device-detector spec/detectSpec.js (Yealink)",
        (
            "Yealink SIP-T19P_E2 53.84.0.15",
            "Yealink SIP-T21P_E2 52.84.0.15",
            "Yealink SIP-T33G 124.86.0.75",
            "Yealink SIP-T46S 66.86.0.15",
            "Yealink SIP-T54W 96.86.0.100",
            "Yealink W60B 77.83.0.85",
            "Yealink W70B 146.85.0.37",
            "Yealink CP960 73.80.0.35",
            "Yealink SIP VP-T49G 51.80.0.100",
        ),
    ),
    Group(
        "desk phones and adapters",
        "Greenbone vulnerability test 'Grandstream GXP IP Phone Detection (SIP)'; antirek/sip-device-detector",
        (
            "Grandstream GXP2170 1.0.11.48",
            "Grandstream GRP2614 1.0.9.43",
            "Grandstream GXV3370 1.0.3.62",
            "Grandstream DP750 1.0.15.3",
            "Grandstream WP820 1.0.7.5",
            "Grandstream HT801 1.0.43.11",
            "Grandstream HT818 1.0.41.5",
            "Grandstream GXW4104 V1.0 1.4.1.4",
            "Grandstream UCM6300 1.0.20.31",
            "Grandstream GDS3710 1.0.7.28",
            "Grandstream GAC2500 1.0.3.50",
        ),
    ),
    Group(
        "desk phones",
        "Snom User Wiki, 'Category:HowTo:SIP'",
        (
            "snom190/3.60s",
            "snom300/8.7.5.35",
            "snom320/8.4.35",
            "snom821/8.9.3.80",
            "snomD345/10.1.54.13",
            "snomD735/10.1.101.11",
            "snomD785/10.1.148.1",
            "snomPA1/8.9.3.80",
            "snom-m9/9.6.11-a",
        ),
    ),
    Group(
        "desk phones and conference phones",
        "rapid7/recog xml/sip_user_agents.xml",
        (
            "PolycomSoundPointIP-SPIP_335-UA/4.0.13.1445",
            "PolycomSoundPointIP-SPIP_550-UA/3.3.2.0413",
            "PolycomSoundStationIP-SSIP_6000-UA/4.0.14.1388",
            "PolycomVVX-VVX_300-UA/5.9.7.3480",
            "PolycomVVX-VVX_401-UA/5.4.1.18405",
            "PolycomVVX-VVX_450-UA/6.4.3.5017",
            "PolyEdge-Edge_E350-UA/8.2.1.3267",
            "PolycomRealPresenceTrio-Trio_8500-UA/7.2.6.3019",
            "Poly/8.0.2.3267 PolyCCX-CCX_500-UA/8.0.2.3267",
        ),
    ),
    Group(
        "desk phones",
        "usecallmanagernz/patches#39; Greenbone vulnerability test 'Cisco ATA Detection (SIP)'; rapid7/recog",
        (
            "Cisco-CP7821/12.8.1",
            "Cisco-CP7861/14.1.1",
            "Cisco-CP7960G/8.0",
            "Cisco-CP7975G/9.4.2",
            "Cisco-CP8841/12.6.1",
            "Cisco-CP8851-3PCC/11.3.7",
            "Cisco-CP8945/9.4.2",
            "Cisco-ATA192-MPP/11-3-1MPP0001-177",
            "Cisco/SPA514G-7.6.2f",
            "Cisco/SPA112-1.4.1(002)",
            "Linksys/SPA942-6.1.5(a)",
            "Linksys/PAP2T-3.1.15(LS)",
            "Linksys/SPA3102-5.2.13(GW002)",
            "Sipura/SPA2002-3.1.5",
            "Cisco-CUCM8.6",
            "Cisco-CUCM12.5",
            "Cisco-SIPGateway/IOS-12.x",
            "Cisco-SIPGateway/IOS-15.7.3.M4",
            "Cisco-SIPGateway/IOS-16.12.5",
            "Cisco-CSF",
            "TANDBERG/529 (ce9.15.3)",
            "TANDBERG/4137 (X12.5.2 (TEST SW))",
        ),
    ),
    Group(
        "desk phones",
        "FreePBX/paging autoanswerRows.php names the beginnings (Digium, Sangoma S, Sangoma P, Mitel, OpenStage, ...)",
        (
            "Digium D65 2_9_5",
            "Digium D80 1_8_6",
            "Sangoma S505/V3.0.4.72",
            "Sangoma P330 4_16_0",
            "Sangoma macOS Softphone 1.0.56",
            "Mitel-6869-SIP-Phone 05.01.00.1024 08000FABCDEF",
            "Mitel 6867i/5.1.0.1024",
            "Aastra 6739i/3.3.1.4365",
            "Aastra 53i/2.6.0.2019",
            "Panasonic-KX-TGP600/22.100 (bcc342000001)",
            "Panasonic_KX-UT136/01.302 (0080f0c0ffee)",
            "Panasonic-KX-HDV230/08.001 (080023000001)",
            "OpenStage_40_V3 R5.14.0 SIP 160329",
            "optiPoint 420_Std/V6.0",
        ),
    ),
    Group(
        "desk phones",
        "elektronikbasteln's published list, whose scanners pose as these phones; Avaya application notes",
        (
            "Avaya IP Phone 1120E (SIP1120e.04.04.33.00)",
            "Avaya J129 IP Phone (4.0.10.1.2)",
            "Avaya J179 IP Phone 4.0.7.1.5 c81feabbccdd",
            "Avaya one-X Deskphone 6.6.604",
            "Avaya Communicator for iPhone/2.1.7",
            "Avaya CM/R018x.00.0.822.0",
            "Avaya-SM-8.1.3.0.813014",
            "IP Office 11.1.2.4.0 build 18",
        ),
    ),
    Group(
        "desk phones and base stations",
        "Gigaset wiki, user-agent examples; antirek/sip-device-detector; elektronikbasteln's list (AGFEO)",
        (
            "Gigaset N510 IP PRO/42.250.00.000.000",
            "Gigaset N870 IP PRO/83.V2.39.0+build.a546b91;7C2F80000001",
            "C610A IP/42.075.00.000.000",
            "DX800A/41.202.00.000.000",
            "Fanvil X6U 2.4.6 0c383e000001",
            "Fanvil i16SV 2.12.43.6 0c383e000002",
            "Voip Phone 1.0",
            "Htek UC926 V2.42.6.5.36R",
            "Escene ES330PE V1.0.5.1",
            "Thomson ST2030 hw5 fw2.74 00-14-7F-00-00-01",
            "Spectralink-PIVOT:8742/2.8.0",
            "Ascom i62/5.7.2",
            "AGFEO SIP V2.04.02 a",
            "AGEphone/2.5.3",
        ),
    ),
    Group(
        "routers and home gateways",
        "rapid7/recog xml/sip_user_agents.xml; openwrt/telephony#53; elektronikbasteln's published list (Sphairon)",
        (
            "FRITZ!OS",
            "AVM FRITZ!Box 7490 113.07.57 TAL (Jul  5 2023)",
            "AVM FRITZ!Box Fon WLAN 7270 v3 74.06.06 (Dec 16 2014)",
            "Sphairon-SL5501-4.42.1.07.00",
            "Technicolor TG784n v3 Build 10.2.1.L",
            "OBIHAI/OBi200-3.2.2.8680EX",
            "Draytek UA-1.2.3 DrayTek Vigor2762",
        ),
    ),
    Group(
        "softphones",
        "kamailio/kamailio#2007 (Zoiper), ntop/nProbe#214 (Bria), baresip/baresip#251, paulseward/sip-hardening",
        (
            "Z 3.15.40006 rv2.8.20",
            "Z 5.5.14 v2.10.18.6",
            "Zoiper rev.11137",
            "Zoiper for Windows 2.39 r16838",
            "ZoiPer r28.07.2010",
            "Bria 5 release 5.8.3 stamp 104005",
            "Bria iOS 6.6.3",
            "X-Lite release 4.9.7.1 stamp 83116",
            "X-Lite 4 release 4.5.5 stamp 71236",
            "eyeBeam release 1102q stamp 51814",
            "eyeBeam release 3010n stamp 19039",
            "CSipSimple_hammerhead-23/r2457",
            "MicroSIP/3.21.3",
            "PhonerLite/3.12",
            "SIPPER for PhonerLite",
            "Linphone-Desktop/5.1.2 (fedora) LinphoneCore/5.2.98",
            "LinphoneiOS/5.2.3 (iPhone) LinphoneSDK/5.3.47",
            "Linphone/3.6.1 (eXosip2/4.1.0)",
            "Jitsi2.10.5550Windows 10",
            "Blink 5.9.1 (Linux)",
            "Twinkle/1.10.2",
            "Ekiga/4.0.1",
            "SFLphone/1.4.1 (ubuntu)",
            "SJphone/1.65.377a (SJ Labs)",
            "Telephone 1.6",
            "Groundwire/5.7.1 (build 1590; iOS 16.1; arm64-neon)",
            "Acrobits SIPIS",
            "3CXPhone 6.0.26523.0",
            "3CX Mobile Client",
            "NCH Software Express Talk 4.35",
            "Mizu SIP SDK 3.9",
            "MizuPhone 3.0",
            "PortSIP VoIP SDK 16.1",
            "PortSIP UC Client iOS - v12.6.3",
            "Ozeki VoIP SIP SDK v10.4.8",
            "ABTO Video SIP SDK",
            "Conaito VoIP SIP SDK",
            "baresip v3.6.0 (x86_64/Linux)",
            "PJSUA v2.13 Linux-6.1/x86_64/glibc-2.36",
            "sipdroid/3.5 beta/Nexus 5",
            "UCCAPI/16.0.12527.20278 OC/16.0.12527.20278 (Skype for Business)",
        ),
    ),
    Group(
        "browsers",
        "versatica/JsSIP and onsip/SIP.js, their default user agents; InnovateAsterisk/Browser-Phone#109",
        (
            "JsSIP 3.10.1",
            "SIP.js/0.21.2",
            "IM-client/OMA1.0 sipML5-v1.2016.03.04",
            "Browser Phone 0.3.29 (SIPJS - 0.20.0)",
        ),
    ),
    Group(
        "PBXs and conference servers",
        "Asterisk channels/chan_sip.c and res/res_pjsip.c; FreeSWITCH mod_sofia; tayler6000/pyVoIP#270 (FreePBX)",
        (
            "Asterisk PBX",
            "Asterisk PBX 16.28.0~dfsg-0+deb11u4",
            "Asterisk PBX 18.20.2",
            "Asterisk PBX 22.5.1~dfsg+~cs6.15.60671435-1",
            "Asterisk PBX certified/18.9-cert8",
            "FPBX-2.11.0(11.25.3)",
            "FPBX-16.0.40.4(18.20.0)",
            "FPBX-17.0.19.24(22.2.0)",
            "FreeSWITCH",
            "FreeSWITCH-mod_sofia/1.10.11-release~64bit",
            "FreeSWITCH-mod_sofia/1.2.23+git~20140325T212530Z~f3d65a8bb0~64bit",
            "3CXPhoneSystem 16.0.8.9 (8)",
            "3CXPhoneSystem 20.0.4.1000 (1000)",
            "3CX Phone System 20.0.6.724",
            "YATE/6.4.0",
            "Mitel-3300-ICP 16.0.3.28",
            "OmniPCX Enterprise R12.4 m5.204.10.d",
            "HiPath 3000 V9.0 M5T SIP Stack/4.0.26.26",
            "innovaphone IP411/13r3 dvl",
            "STARFACE PBX 8.1.1.5",
            "Axon Virtual PBX 2.23",
            "SylkServer-6.1.0",
            "Jigasi1.1.311-g1a2b3c4Linux",
        ),
    ),
    Group(
        "gateways and session border controllers",
        "AudioCodes MP-11x user's manual LTRT-65412; kamailio/kamailio#543; Greenbone test 'Linknat VOS SoftSwitch'",
        (
            "Audiocodes-Sip-Gateway-MP-114 FXS/v.6.60A.245.006",
            "Mediant VE SBC/v.7.40A.250.440",
            "M800B/v.7.20A.258.354",
            "Patton SN4140 4S 00A0BA000001 R6.9 2017-04-11 H323 SIP FXS FXO M5T SIP Stack/4.1.15.18",
            "dble",
            "Alcatel-Lucent 5060 MGC-8 9.3.0.8.0.1",
            "Alcatel-Lucent 5060 MGC-8 8.3.0.2.0.9",
            "Huawei SoftX3000 V300R600",
            "SIP/1.0 (Huawei)",
            "SIParator/6.3.2",
            "Ingate-SIParator/6.3.2",
            "kamailio (5.7.4 (x86_64/linux))",
            "OpenSIPS (3.4.5 (x86_64/linux))",
            "Sipwise NGCP Proxy Server",
            "Sippy Softswitch v2023",
            "VOS3000 V2.1.8.05",
            "MERA MVTS3G v.4.8.0-30",
            "RTCC/7.0.0.0 MediationServer",
            "Microsoft.PSTNHub.SIPProxy v.2024.5.14.2 i.EUWE.1",
            "Twilio Gateway",
        ),
    ),
    Group(
        "door stations, loudspeakers, alarm and monitoring",
        "BelledonneCommunications/linphone-android#2457 (Hikvision); openhab/openhab-addons#20681; 2N and Algo manuals",
        (
            "2N IP Verso 2.45.1.56.4",
            "2N Helios IP/2.13.0.21.1",
            "Algo-8180/5.4.2",
            "HKVS/2.0",
            "openHAB",
            "sipsorcery_v6.0.12",
        ),
    ),
)

USER_AGENTS: tuple[str, ...] = tuple(value for group in GROUPS for value in group.values)

# Names that values of real products begin with.
MAKERS: tuple[str, ...] = (
    "2N",
    "3CX",
    "Aastra",
    "ABTO",
    "Acrobits",
    "AGEphone",
    "AGFEO",
    "Akuvox",
    "Alcatel",
    "Algo-",
    "Ascom",
    "Asterisk",
    "Auerswald",
    "Audiocodes",
    "Avaya",
    "AVM",
    "Axis",
    "Axon",
    "baresip",
    "Behnke",
    "beroNet",
    "bintec",
    "Blink",
    "Bria",
    "BroadWorks",
    "Browser Phone",
    "Cisco",
    "COMpact",
    "COMtrexx",
    "Conaito",
    "CSipSimple",
    "CyberData",
    "Dahua",
    "Digium",
    "Dinstar",
    "DoorBird",
    "Draytek",
    "DX800A",
    "Ekiga",
    "Elastix",
    "Ericsson",
    "Escene",
    "eyeBeam",
    "Fanvil",
    "FPBX",
    "FreePBX",
    "FreeSWITCH",
    "FRITZ!",
    "GENBAND",
    "Gigaset",
    "Grandstream",
    "Groundwire",
    "Hikvision",
    "HiPath",
    "Home Assistant",
    "Htek",
    "Huawei",
    "Ingate",
    "innovaphone",
    "Issabel",
    "Jigasi",
    "Jitsi",
    "JsSIP",
    "kamailio",
    "LANCOM",
    "Linksys",
    "Linphone",
    "Mediant",
    "MERA",
    "Metaswitch",
    "MicroSIP",
    "Microsoft",
    "MikoPBX",
    "Mitel",
    "MiVoice",
    "Mizu",
    "NEC-",
    "Nokia",
    "OBIHAI",
    "OmniPCX",
    "OpenScape",
    "OpenSIPS",
    "OpenStage",
    "OpenVox",
    "optiPoint",
    "Oracle",
    "Ozeki",
    "Panasonic",
    "Patton",
    "PBXact",
    "Pexip",
    "Phoner",
    "PJSUA",
    "Poly",
    "PortSIP",
    "Ribbon",
    "Samsung",
    "Sangoma",
    "SFLphone",
    "SIP.js",
    "sipgate",
    "SIPml5",
    "Sippy",
    "SIPSorcery",
    "Sipura",
    "SJphone",
    "Skype",
    "snom",
    "Sonus",
    "Spectralink",
    "Speedport",
    "Sphairon",
    "STARFACE",
    "Swyx",
    "SylkServer",
    "TANDBERG",
    "Technicolor",
    "Telnyx",
    "Thomson",
    "Twilio",
    "Twinkle",
    "UCCAPI",
    "Univerge",
    "Vega",
    "X-Lite",
    "YATE",
    "Yealink",
    "Yeastar",
    "Z 3",
    "Z 5",
    "Zenitel",
    "Zoiper",
    "ZTE",
    "Zyxel",
)

# Words that anybody's own client may begin with, although no product above does.
GENERIC: tuple[str, ...] = (
    "agent",
    "android",
    "call",
    "caller",
    "client",
    "custom",
    "default",
    "gateway",
    "intercom",
    "phone",
    "server",
    "softphone",
    "switch",
    "telephone",
    "test",
    "trunk",
    "user",
    "webrtc",
)


def _wire(text: str) -> bytes:
    return text.lstrip("\n").replace("\n", "\r\n").encode("utf-8")


# Written for this purpose, after what such systems send. Addresses and names are those of RFC 5737 and RFC 2606.
# A backslash at the end of a line only keeps the source narrow.
MESSAGES: tuple[tuple[str, bytes], ...] = (
    (
        "a desk phone's REGISTER",
        _wire("""
REGISTER sip:pbx.example.com:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.21:5062;branch=z9hG4bK2647282252;rport
From: "Reception" <sip:201@pbx.example.com>;tag=3017020213
To: "Reception" <sip:201@pbx.example.com>
Call-ID: 0_132618570@192.0.2.21
CSeq: 2 REGISTER
Contact: <sip:201@192.0.2.21:5062>
Authorization: Digest username="201", realm="asterisk", nonce="655a1c34/9f1d", uri="sip:pbx.example.com:5060",\
 response="7f0a6c2f1f5d0f1b2a3c4d5e6f708192", algorithm=MD5
Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE
Max-Forwards: 70
User-Agent: Yealink SIP-T46S 66.86.0.15
Expires: 3600
Allow-Events: talk,hold,conference,refer,check-sync
Content-Length: 0

"""),
    ),
    (
        "a Cisco phone's REGISTER (RFC 7989 nil UUID in Session-ID)",
        _wire("""
REGISTER sip:192.0.2.10 SIP/2.0
Via: SIP/2.0/TCP 192.0.2.22:51521;branch=z9hG4bK1f3b2c4d
From: <sip:4570@192.0.2.10>;tag=00aabbccddee00024c1f5e0e-1b2f7d3a
To: <sip:4570@192.0.2.10>
Call-ID: 00aabbcc-ddee0002-3e1c7a58-5a0c9d11@192.0.2.22
Session-ID: 3a5f1b2c00105000a00000aabbccddee;remote=00000000000000000000000000000000
Max-Forwards: 70
CSeq: 101 REGISTER
User-Agent: Cisco-CP8851/14.2.1
Contact: <sip:4570@192.0.2.22:51521;transport=tcp>;\
+sip.instance="<urn:uuid:00000000-0000-0000-0000-00aabbccddee>";\
+u.sip!devicename.ccm.cisco.com="SEP00AABBCCDDEE";+u.sip!model.ccm.cisco.com="684"
Supported: replaces,join,sdp-anat,norefersub,resource-priority,extended-refer,X-cisco-callinfo,\
X-cisco-serviceuri,X-cisco-escapecodes,X-cisco-service-control,X-cisco-srtp-fallback,X-cisco-monrec,\
X-cisco-config,X-cisco-sis-9.1.1
Reason: SIP;cause=200;text="cisco-alarm:14 Name=SEP00AABBCCDDEE ActiveLoad=sip88xx.14-2-1 Last=initialized"
Expires: 3600
Content-Length: 0

"""),
    ),
    (
        "chan_sip's INVITE with its default session name",
        _wire("""
INVITE sip:+442079460123@sip.example.net SIP/2.0
Via: SIP/2.0/UDP 198.51.100.5:5060;branch=z9hG4bK5f2a1c77;rport
Max-Forwards: 70
From: "Head Office" <sip:+442079460000@198.51.100.5>;tag=as1b93c676
To: <sip:+442079460123@sip.example.net>
Contact: <sip:+442079460000@198.51.100.5:5060>
Call-ID: 7b068be424cee3565279b5cb075e248b@198.51.100.5:5060
CSeq: 102 INVITE
User-Agent: Asterisk PBX 16.28.0~dfsg-0+deb11u4
Date: Fri, 02 May 2025 09:14:03 GMT
Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH, MESSAGE
Supported: replaces, timer
Content-Type: application/sdp
Content-Length: 287

v=0
o=root 1804289383 1804289383 IN IP4 198.51.100.5
s=Asterisk PBX 16.28.0~dfsg-0+deb11u4
c=IN IP4 198.51.100.5
t=0 0
m=audio 14678 RTP/AVP 8 0 9 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:9 G722/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=maxptime:150
a=sendrecv
"""),
    ),
    (
        "a FreePBX trunk's INVITE",
        _wire("""
INVITE sip:5551000@voip.example.com:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.9:5060;rport;branch=z9hG4bKPj2088afaa-5794-4bc0-b08e-d332b42f7d91
From: "Sims, John" <sip:5550100@203.0.113.9>;tag=551734e6-3253-4f5a-82cb-f4af2400298c
To: <sip:5551000@voip.example.com>
Contact: <sip:asterisk@203.0.113.9:5060>
Call-ID: 9b3bc102-a89f-41c6-b17b-fe2e75aaa613
CSeq: 16613 INVITE
Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, MESSAGE, INFO, REFER
Supported: 100rel, timer, replaces, norefersub, histinfo
Session-Expires: 1800
Min-SE: 90
P-Asserted-Identity: "Sims, John" <sip:5550100@203.0.113.9>
Max-Forwards: 70
User-Agent: FPBX-17.0.19.24(22.2.0)
Content-Type: application/sdp
Content-Length: 239

v=0
o=- 1460456014 1460456014 IN IP4 203.0.113.9
s=Asterisk
c=IN IP4 203.0.113.9
t=0 0
m=audio 13344 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=sendrecv
"""),
    ),
    (
        "an IMS trunk's INVITE",
        _wire("""
INVITE sip:+4930123456@198.51.100.5:5060;transport=udp;user=phone SIP/2.0
Via: SIP/2.0/UDP 203.0.113.60:5060;branch=z9hG4bKg3Zqkv7i2c8h4h6a3k1b7f9d2;Role=3
Record-Route: <sip:203.0.113.60;transport=udp;lr>
From: "+4989654321" <sip:+4989654321@ims.example.net;user=phone>;tag=h7g4Esbg_p65551t1714640043m
To: <sip:+4930123456@ims.example.net;user=phone>
Call-ID: p65551t1714640043m776034c41s2@ims.example.net
CSeq: 1 INVITE
Max-Forwards: 60
Contact: <sip:sgc_c@203.0.113.60;transport=udp>;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"
P-Asserted-Identity: <sip:+4989654321@ims.example.net;user=phone>
P-Asserted-Service: urn:urn-7:3gpp-service.ims.icsi.mmtel
P-Charging-Vector: icid-value="sgc.ims.example.net-1714-640043-776034";orig-ioi=example.net
Accept-Contact: *;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"
Supported: timer, 100rel, histinfo, 199
Allow: INVITE, ACK, OPTIONS, CANCEL, BYE, UPDATE, PRACK, INFO, NOTIFY, REFER, SUBSCRIBE, MESSAGE
Session-Expires: 1800
Min-SE: 900
Content-Type: application/sdp
Content-Length: 222

v=0
o=- 3221225472 1 IN IP4 203.0.113.61
s=-
c=IN IP4 203.0.113.61
t=0 0
m=audio 30010 RTP/AVP 9 8 101
a=rtpmap:9 G722/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
"""),
    ),
    (
        "a carrier's INVITE through a Cisco gateway",
        _wire("""
INVITE sip:5551000@198.51.100.5:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.80:5060;x-route-tag="tgrp:PSTN";branch=z9hG4bK1A2B3C
Remote-Party-ID: <sip:5550155@203.0.113.80>;party=calling;screen=yes;privacy=off
From: <sip:5550155@203.0.113.80>;tag=7C2A1F04-1D3E
To: <sip:5551000@198.51.100.5>
Date: Fri, 02 May 2025 09:14:03 GMT
Call-ID: 5C1A2B3D-269611F0-8F1BD6B2-0C0FFEE0@203.0.113.80
Supported: 100rel,timer,resource-priority,replaces,sdp-anat
Min-SE:  1800
Cisco-Guid: 1545218877-0647368176-2400966322-0202373856
User-Agent: Cisco-SIPGateway/IOS-16.12.5
Allow: INVITE, OPTIONS, BYE, CANCEL, ACK, PRACK, UPDATE, REFER, SUBSCRIBE, NOTIFY, INFO, REGISTER
CSeq: 101 INVITE
Timestamp: 1746177243
Contact: <sip:5550155@203.0.113.80:5060>
Max-Forwards: 69
Content-Type: multipart/mixed;boundary=uniqueBoundary
Mime-Version: 1.0
Content-Length: 368

--uniqueBoundary
Content-Type: application/sdp
Content-Disposition: session;handling=required

v=0
o=CiscoSystemsSIP-GW-UserAgent 2148 6541 IN IP4 203.0.113.80
s=SIP Call
c=IN IP4 203.0.113.80
t=0 0
m=audio 16844 RTP/AVP 0 101
c=IN IP4 203.0.113.80
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16

--uniqueBoundary--
"""),
    ),
    (
        "a browser's INVITE over WebSocket",
        _wire("""
INVITE sip:john@nyc.example.com SIP/2.0
Via: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK8643725
Max-Forwards: 69
To: <sip:john@nyc.example.com>
From: "Ann" <sip:ann@new.example.com>;tag=jm7gktle5o
Call-ID: jhc4j1qq70aki77o8k8f
CSeq: 2292 INVITE
Contact: <sip:9nrf1h4t@df7jal23ls0d.invalid;transport=ws;ob>
Content-Type: application/sdp
Session-Expires: 90
Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY
Supported: timer,ice,replaces,outbound
User-Agent: JsSIP 3.10.1
Content-Length: 555

v=0
o=- 789428192590246152 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
m=audio 57240 UDP/TLS/RTP/SAVPF 111 9 0 8 126
c=IN IP4 192.0.2.77
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:3458083907 1 udp 2122260223 192.0.2.77 57240 typ host generation 0 network-id 1
a=ice-ufrag:PKyv
a=ice-pwd:EtEbDzQPMLcfnnDHIne1aDyF
a=fingerprint:sha-256 \
93:57:33:0D:2C:19:15:0E:99:59:F5:74:25:AA:3A:9C:A0:52:95:92:BC:62:CD:84:1A:59:70:0D:70:3D:F9:24
a=setup:actpass
a=mid:0
a=rtpmap:111 opus/48000/2
a=rtpmap:126 telephone-event/8000
"""),
    ),
    (
        "Microsoft Teams' OPTIONS to a session border controller",
        _wire("""
OPTIONS sip:sbc1.example.com:5061;transport=tls SIP/2.0
FROM: <sip:sip-du-a-eu.pstnhub.microsoft.com:5061>;tag=5d3f7a20-91c4-4e0c-9f0b-6c8a1d2e3f40
TO: <sip:sbc1.example.com>
CSEQ: 1 OPTIONS
CALL-ID: c1e7b7a6-0d5b-4a0b-8a57-3f6d5ce0a7d1
MAX-FORWARDS: 70
VIA: SIP/2.0/TLS 203.0.113.114:5061;branch=z9hG4bK4a0c5e1d
CONTACT: <sip:sip-du-a-eu.pstnhub.microsoft.com:5061>
CONTENT-LENGTH: 0
USER-AGENT: Microsoft.PSTNHub.SIPProxy v.2024.5.14.2 i.EUWE.1
ALLOW: INVITE,ACK,OPTIONS,CANCEL,BYE,NOTIFY

"""),
    ),
    (
        "a provider's OPTIONS without a User-Agent",
        _wire("""
OPTIONS sip:0033900000000@198.51.100.5;transport=udp SIP/2.0
Via: SIP/2.0/UDP 203.0.113.33:5962;rport;branch=z9hG4bK-FRFA-83bfda90-033f1f3b
From: <sip:keepalive@203.0.113.33:5962>;tag=01-01390-540230d52-379e7ce5
To: <sip:0033900000000@sip.example.net>
Call-ID: 01-01390-540230d53-4df11419@203.0.113.33
CSeq: 1 OPTIONS
Contact: <sip:203.0.113.33:5962>
Max-Forwards: 70
Content-Length: 0

"""),
    ),
    (
        "a softphone's SUBSCRIBE in compact form",
        _wire("""
SUBSCRIBE sip:201@pbx.example.com SIP/2.0
v: SIP/2.0/UDP 192.0.2.33:5060;branch=z9hG4bK-524287-1---83c6286a7131d18f;rport
Max-Forwards: 70
m: <sip:205@192.0.2.33:5060;rinstance=7d1f71558e3f57d7>
t: <sip:201@pbx.example.com>
f: "Testa, Maria" <sip:205@pbx.example.com>;tag=b849df7c
i: lHbCe0C_nm8AeSIRTVRYww..
CSeq: 1 SUBSCRIBE
Expires: 300
Accept: application/dialog-info+xml
o: dialog
User-Agent: Z 5.5.14 v2.10.18.6
l: 0

"""),
    ),
    (
        "a FRITZ!Box's BYE",
        _wire("""
BYE sip:+4930123456@198.51.100.5:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.90:5060;rport;branch=z9hG4bK268D5B6BEB497650
From: <sip:+4989654321@sip.example.net>;tag=2153B4A608AA2D41
To: <sip:+4930123456@sip.example.net;user=phone>;tag=as5dd4ea01
Call-ID: 26C78D12504BF7D0@192.0.2.90
CSeq: 13 BYE
User-Agent: AVM FRITZ!Box 7490 113.07.57 TAL (Jul  5 2023)
X-RTP-Stat: CS=0;PS=711;ES=711;OS=113760;SP=0/0;SO=0;QS=-;PR=709;ER=709;OR=113440;CR=0;SR=0;PL=0,0;JI=0,0
Max-Forwards: 70
Content-Length: 0

"""),
    ),
    (
        "a phone's ACK",
        _wire("""
ACK sip:5551000@198.51.100.5:5060 SIP/2.0
Via: SIP/2.0/TCP 192.0.2.40:60341;branch=z9hG4bK7a0b5673;alias
From: "Studio" <sips:studio@example.org>;tag=90f1c2
To: <sip:5551000@example.org>;tag=gK0ca71266
Call-ID: 2708803492-1427
CSeq: 20 ACK
Max-Forwards: 70
User-Agent: snomD735/10.1.101.11
Content-Length: 0

"""),
    ),
    (
        "a Digium phone's answer",
        _wire("""
SIP/2.0 200 OK
Via: SIP/2.0/UDP 198.51.100.5:5060;rport=5060;received=198.51.100.5;branch=z9hG4bKPj12a14aa5-996e
Call-ID: 12a1265b-996e-11f0-993a-e41f13b9c674
From: "Front Desk" <sip:104@pbx.example.com>;tag=12a12618-996e-11f0
To: <sip:145@192.0.2.50>;tag=W1t9Nn3k0bq
CSeq: 17595 INVITE
User-Agent: Digium D65 2_9_5
Contact: "145" <sip:145@192.0.2.50:5060;ob>
Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS
Supported: replaces, 100rel, timer, norefersub
Content-Type: application/sdp
Content-Length: 258

v=0
o=- 3712345678 3712345679 IN IP4 192.0.2.50
s=digphn
c=IN IP4 192.0.2.50
t=0 0
m=audio 4000 RTP/SAVP 8 101
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:V5fDIKGa3MIB+wdWZpsBaOfUI0ZAdbtkYYF6lUFD
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=sendrecv
"""),
    ),
    (
        "a registrar's challenge",
        _wire("""
SIP/2.0 401 Unauthorized
Via: SIP/2.0/UDP 198.51.100.5:5060;received=198.51.100.5;rport=5060;branch=z9hG4bKPjf6110200
Call-ID: aa26998a-7a26-48a6-243a-11eda51a3aa6
From: <sip:trunk01@sip.example.net>;tag=61616278
To: <sip:trunk01@sip.example.net>;tag=z9hG4bKPjf6110200
CSeq: 2 REGISTER
WWW-Authenticate: Digest realm="sip.example.net",nonce="aZd2+2mXdc/Fm8LSKfGjrtllo5vsuBEhL6VSjUA=",qop="auth",\
algorithm=MD5
Server: kamailio (5.7.4 (x86_64/linux))
Content-Length: 0

"""),
    ),
)
