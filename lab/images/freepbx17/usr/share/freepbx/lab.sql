-- Copyright (c) 2026 The sipguard.pbx contributors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- A FreePBX as the other PBXs of the lab are: two phones, a carrier that does not register, and strangers let in.
INSERT INTO admin VALUES ('need_reload', 'true');
INSERT INTO kvstore_Sipsettings (key, val, type, id) VALUES
    ('allowguest', 'yes', NULL, 'noid'),
    ('allowanon', 'Yes', NULL, 'noid'),
    ('binds', '{"udp":{"0.0.0.0":"on"},"tcp":{"0.0.0.0":"on"}}', 'json-arr', 'noid'),
    ('udpport-0.0.0.0', '5060', NULL, 'noid'),
    ('tcpport-0.0.0.0', '5060', NULL, 'noid');
INSERT INTO freepbx_settings VALUES
    ('SIPUSERAGENT', 'FPBX', 'text', '', 'FPBX', 1, 0),
    ('PRE_RELOAD', '', 'text', '', '', 1, 0);
INSERT INTO sip VALUES
    ('1001', 'sipdriver', 'chan_pjsip', 0), ('1001', 'secret', 'pT4v-Zq81-mWx6-Hn30', 1),
    ('1001', 'context', 'from-internal', 2), ('1001', 'callerid', 'device <1001>', 3),
    ('1002', 'sipdriver', 'chan_pjsip', 0), ('1002', 'secret', 'Gd72-rKc9-Ls05-vBy1', 1),
    ('1002', 'context', 'from-internal', 2), ('1002', 'callerid', 'device <1002>', 3);
INSERT INTO pjsip VALUES
    ('1', 'trunk_name', 'carrier', 0), ('1', 'username', 'customer', 1), ('1', 'secret', 'not-used', 2),
    ('1', 'sip_server', 'trunk', 3), ('1', 'transport', '0.0.0.0-udp', 4), ('1', 'context', 'from-pstn', 5),
    ('1', 'registration', 'none', 6), ('1', 'match', 'trunk,trunk6', 7);
-- Off until somebody enables it, as after the wizard was left; SSH for everybody, since no address is known yet.
INSERT INTO kvstore_FreePBX_modules_Firewall (key, val, type, id) VALUES
    ('status', '0', NULL, 'noid'),
    ('responsivefw', '1', NULL, 'noid'),
    ('refresh', 'fast', NULL, 'noid'),
    ('ssh', '["internal","external"]', 'json-arr', 'servicesettings'),
    ('http', '["internal"]', 'json-arr', 'servicesettings'),
    ('https', '["internal"]', 'json-arr', 'servicesettings'),
    ('ucp', '["internal"]', 'json-arr', 'servicesettings'),
    ('pjsip', '["internal"]', 'json-arr', 'servicesettings'),
    ('pjsip', '1', NULL, 'rfw');
