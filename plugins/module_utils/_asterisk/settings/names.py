# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that Asterisk knows, by driver and kind of section.

PJSIP's are those of the XML documentation of 16.28 and 22.10 (configInfo res_pjsip*, pjsip.conf). An entry is
``name:kind@versions``: kind is bool, int or list (a line of its own for each value), otherwise any text; versions are the first
of each branch that has the option (the documentation's <since>), none when all supported versions do.

chan_sip has no XML documentation; its names are those of Asterisk's configs/samples/sip.conf.sample and of channels/chan_sip.c,
the same from 16 to 20.
"""

from __future__ import annotations

__all__ = ["CHAN_SIP", "PJSIP"]

# fmt: off
PJSIP = {
    "global": """
        all_codecs_on_empty_reinvite:bool@16.30/18.16/19.8/20.1
        allow_sending_180_after_183:bool@16.26/18.12/19.4 contact_expiration_check_interval:int debug
        default_auth_algorithms_uac@20.12/21.7/22.2 default_auth_algorithms_uas@20.12/21.7/22.2
        default_from_user default_outbound_endpoint default_realm default_voicemail_extension
        disable_multi_domain:bool endpoint_identifier_order ignore_uri_user_options:bool keep_alive_interval:int
        max_forwards:int max_initial_qualify_time:int mwi_disable_initial_unsolicited:bool
        mwi_tps_queue_high:int mwi_tps_queue_low:int norefersub:bool@16.4 regcontext
        send_contact_status_on_update_registration:bool@16.2 taskprocessor_overload_trigger@16.3 type
        unidentified_request_count:int unidentified_request_period:int unidentified_request_prune_interval:int
        use_callerid_contact:bool@16.1 user_agent
    """,
    "system": """
        accept_multiple_sdp_answers:bool compact_headers:bool disable_rport:bool@16.12/17.6
        disable_tcp_switch:bool follow_early_media_fork:bool taskpool_auto_increment:int@20.18/22.8/23.2
        taskpool_idle_timeout:int@20.18/22.8/23.2 taskpool_initial_size:int@20.18/22.8/23.2
        taskpool_max_size:int@20.18/22.8/23.2 taskpool_minimum_size:int@20.18/22.8/23.2
        threadpool_auto_increment:int threadpool_idle_timeout:int threadpool_initial_size:int
        threadpool_max_size:int timer_b:int timer_t1:int type
    """,
    "transport": """
        allow_reload:bool allow_wildcard_certs:bool@16.28/18.14/19.6 async_operations:int bind ca_list_file
        ca_list_path cert_file cipher cos:int domain external_media_address external_signaling_address
        external_signaling_port:int local_net:list method password priv_key_file protocol
        require_client_cert:bool symmetric_transport:bool tcp_keepalive_enable:bool@18.23/20.8/21.3
        tcp_keepalive_idle_time:int@18.23/20.8/21.3 tcp_keepalive_interval_time:int@18.23/20.8/21.3
        tcp_keepalive_probe_count:int@18.23/20.8/21.3 tos type verify_client:bool verify_server:bool
        websocket_write_timeout:int
    """,
    "endpoint": """
        100rel accept_multiple_sdp_answers:bool accountcode acl:list aggregate_mwi:bool allow:list
        allow_overlap:bool allow_subscribe:bool allow_transfer:bool
        allow_unauthenticated_options:bool@16.18/18.4 aors asymmetric_rtp_codec:bool auth:list
        bind_rtp_to_media_address:bool bundle:bool call_group callerid callerid_privacy callerid_tag
        codec_prefs_incoming_answer@18.0 codec_prefs_incoming_offer@18.0 codec_prefs_outgoing_answer@18.0
        codec_prefs_outgoing_offer@18.0 connected_line_method contact_acl:list contact_deny:list
        contact_permit:list contact_user context cos_audio:int cos_video:int deny:list device_state_busy_at:int
        direct_media:bool direct_media_glare_mitigation direct_media_method disable_direct_media_on_nat:bool
        disallow:list dtls_auto_generate_cert:bool dtls_ca_file dtls_ca_path dtls_cert_file dtls_cipher
        dtls_fingerprint dtls_private_key dtls_rekey dtls_setup dtls_verify dtmf_mode fax_detect:bool
        fax_detect_timeout:int follow_early_media_fork:bool follow_redirect_methods@20.18/22.8/23.2
        force_avp:bool force_rport:bool from_domain from_user g726_non_standard:bool
        geoloc_incoming_call_profile@16.28/18.14/19.6 geoloc_outgoing_call_profile@16.28/18.14/19.6
        ice_support:bool identify_by ignore_183_without_sdp:bool@16.3 inband_progress:bool
        incoming_call_offer_pref@18.0 incoming_mwi_mailbox language mailboxes max_audio_streams:int
        max_video_streams:int media_address media_encryption media_encryption_optimistic:bool
        media_use_received_transport:bool message_context moh_passthrough:bool moh_suggest mwi_from_user
        mwi_subscribe_replaces_unsolicited:bool named_call_group named_pickup_group
        notify_early_inuse_ringing:bool one_touch_recording:bool outbound_auth:list outbound_proxy
        outgoing_call_offer_pref@18.0 overlap_context@18.17/20.2 permit:list pickup_group
        preferred_codec_only:bool record_off_feature record_on_feature redirect_method refer_blind_progress:bool
        rewrite_contact:bool rpid_immediate:bool rtcp_mux:bool rtp_engine rtp_ipv6:bool rtp_keepalive:int
        rtp_port_end:int@20.20/22.10/23.4 rtp_port_start:int@20.20/22.10/23.4 rtp_symmetric:bool rtp_timeout:int
        rtp_timeout_hold:int sdp_owner sdp_session security_mechanisms@21.0 security_negotiation@21.0
        send_aoc:bool@18.16/20.1 send_connected_line:bool@16.1 send_diversion:bool
        send_history_info:bool@16.15/17.9/18.1 send_pai:bool send_rpid:bool set_var:list srtp_tag_32:bool
        stir_shaken@16.28/18.22/20.7/21.2 stir_shaken_profile@16.26/18.12/19.4 sub_min_expiry:int
        subscribe_context suppress_moh_on_sendonly:bool@20.11/21.6/22.1 suppress_q850_reason_headers:bool
        t38_bind_udptl_to_media_address:bool@16.22/18.8 t38_udptl:bool t38_udptl_ec t38_udptl_ipv6:bool
        t38_udptl_maxdatagram:int t38_udptl_nat:bool tenantid@18.25/20.10/21.5 timers timers_min_se:int
        timers_sess_expires:int tone_zone tos_audio tos_video transport trust_connected_line:bool@16.1
        trust_id_inbound:bool trust_id_outbound:bool type use_avpf:bool use_ptime:bool user_eq_phone:bool
        voicemail_extension webrtc:bool
    """,
    "auth": """
        auth_type md5_cred nonce_lifetime:int oauth_clientid@17.0 oauth_secret@17.0 password
        password_digest:list@20.12/21.7/22.2 realm refresh_token@17.0 supported_algorithms_uac@20.12/21.7/22.2
        supported_algorithms_uas@20.12/21.7/22.2 type username
    """,
    "aor": """
        authenticate_qualify:bool contact:list default_expiration:int mailboxes max_contacts:int
        maximum_expiration:int minimum_expiration:int outbound_proxy qualify_2xx_only:bool@20.12/21.7/22.2
        qualify_frequency:int qualify_timeout remove_existing:bool remove_unavailable:bool@16.22/18.8
        support_path:bool type voicemail_extension
    """,
    "identify": """
        endpoint match:list match_header match_request_uri@18.23/20.8/21.3 srv_lookups:bool type
    """,
    "acl": """
        acl:list contact_acl:list contact_deny:list contact_permit:list deny:list permit:list type
    """,
    "registration": """
        auth_rejection_permanent:bool client_uri contact_header_params@17.0 contact_user endpoint expiration:int
        fatal_retry_interval:int forbidden_retry_interval:int line:bool
        max_random_initial_delay:int@16.27/18.13/19.5 max_retries:int outbound_auth:list outbound_proxy
        retry_interval:int security_mechanisms@21.0 security_negotiation@21.0 server_uri
        support_outbound:bool@17.0 support_path:bool transport type user_agent@21.2
    """,
    "domain_alias": """
        domain type
    """,
    "contact": """
        authenticate_qualify:bool call_id endpoint expiration_time outbound_proxy path prune_on_boot:bool
        qualify_2xx_only:bool@20.12/21.7/22.2 qualify_frequency:int qualify_timeout reg_server type uri user_agent via_addr
        via_port:int
    """,
    "resource_list": """
        event full_state list_item notification_batch_interval resource_display_name@16.25/18.11/19.3 type
    """,
    "subscription_persistence": """
        contact_uri cseq endpoint expires generator_data local_name local_port packet prune_on_boot src_name
        src_port tag transport_key
    """,
    "inbound-publication": """
        endpoint type
    """,
    "outbound-publish": """
        event expiration from_uri max_auth_attempts multi_user outbound_auth outbound_proxy server_uri to_uri
        transport type
    """,
    "asterisk-publication": """
        device_state device_state_filter devicestate_publish mailbox_state mailbox_state_filter
        mailboxstate_publish type
    """,
    "phoneprov": """
        * MAC PROFILE endpoint type
    """,
}

_COMMON = """
    allow:list allowoverlap allowsubscribe:bool allowtransfer:bool autoframing:bool buggymwi:bool callcounter:bool
    callerid canreinvite contactacl:list contactdeny:list contactpermit:list context directmedia disallow:list
    disallowed_methods discard_remote_hold_retrieval:bool dtlsautogeneratecert:bool dtlscafile dtlscapath dtlscadir
    dtlscertfile dtlscipher dtlsenable:bool dtlsfingerprint dtlsprivatekey dtlsrekey:int dtlssetup dtlsverify dtmfmode
    faxdetect fromdomain g726nonstandard:bool icesupport:bool ignoresdpversion:bool insecure keepalive language
    maxcallbitrate:int maxforwards:int mohinterpret mohsuggest mwi_from nat outboundproxy outofcall_message_context
    parkinglot preferred_codec_only:bool progressinband promiscredir:bool qualify qualifyfreq:int recordofffeature
    recordonfeature rfc2833compensate:bool rpid_immediate:bool rpid_update:bool rtcp_mux:bool rtp_engine rtpholdtimeout:int
    rtpkeepalive:int rtptimeout:int sendrpid session-expires:int session-minse:int session-refresher session-timers
    snom_aoc_enabled:bool subscribecontext supportpath:bool t38pt_udptl t38pt_usertpsource:bool textsupport:bool timerb:int
    timert1:int tonezone transport trust_id_outbound trustrpid:bool use_q850_reason:bool useclientcode:bool usereqphone:bool
    videosupport vmexten
"""

CHAN_SIP = {
    "general": _COMMON + """
        accept_outofcall_message:bool allowexternaldomains:bool allowguest:bool alwaysauthreject:bool
        auth_message_requests:bool auth_options_requests:bool authfailureevents:bool autocreatepeer autodomain:bool
        bindaddr bindport:int compactheaders:bool cos_audio:int cos_sip:int cos_text:int cos_video:int defaultexpirey:int
        defaultexpiry:int directrtpsetup:bool domain:list domainsasrealm:bool dumphistory:bool dynamic_exclude_static:bool
        dynamic_excludes_static:bool externaddr externhost externip externrefresh:int externtcpport:int externtlsport:int
        ignoreregexpire:bool jbenable:bool jbforce:bool jbimpl jblog:bool jbmaxsize:int jbresyncthreshold:int
        jbsyncvideo:bool jbtargetextra:int legacy_useroption_parsing:bool localnet:list match_auth_username:bool matchexternaddrlocally:bool
        matchexterniplocally:bool maxexpirey:int maxexpiry:int media_address minexpirey:int minexpiry:int mwi:list
        mwiexpirey:int mwiexpiry:int notifycid notifyhold:bool notifymimetype notifyringing pedantic:bool
        prematuremedia:bool qualifygap:int qualifypeers:int realm recordhistory:bool refer_addheaders:bool regcontext
        regextenonqualify:bool register:list register_retry_403:bool registerattempts:int registertimeout:int relaxdtmf:bool
        rtautoclear rtcachefriends:bool rtpbindaddr rtsavepath:bool rtsavesysname:bool rtupdate:bool sdpowner sdpsession
        send_diversion:bool shrinkcallerid:bool sipdebug:bool srvlookup:bool storesipcause:bool submaxexpirey:int
        submaxexpiry:int subminexpirey:int subminexpiry:int subscribe_network_change_event:bool t1min:int tcpauthlimit:int
        tcpauthtimeout:int tcpbindaddr tcpenable:bool tlsbindaddr tlscadir tlscafile tlscapath tlscert tlscertfile
        tlscipher tlsclientmethod tlsdisablev1:bool tlsdisablev11:bool tlsdisablev12:bool tlsdontverifyserver:bool
        tlsenable:bool tlsprivatekey tlsservercipherorder:bool tos_audio tos_sip tos_text tos_video udpbindaddr useragent
        websocket_enabled:bool websocket_write_timeout:int
    """,
    "peer": _COMMON + """
        accountcode acl:list amaflags auth:list avpf:bool busylevel:int call-limit:int callbackextension callgroup callingpres
        cc_agent_dialstring cc_agent_policy cc_callback_macro cc_callback_sub cc_max_agents:int cc_max_monitors:int
        cc_monitor_policy cc_offer_timer:int cc_recall_timer:int ccbs_available_timer:int ccnr_available_timer:int cid_number
        cid_tag defaultip defaultuser deny:list description directmediaacl:list directmediadeny:list directmediapermit:list
        encryption:bool encryption_taglen:int force_avp:bool fromuser fullname hasvoicemail:bool header:list host
        ignore_requested_pref:bool mailbox:list md5secret namedcallgroup namedpickupgroup permit:list pickupgroup port:int
        regexten remotesecret secret setvar:list subscribemwi:bool trunkname type unsolicited_mailbox username
    """,
}
# fmt: on
