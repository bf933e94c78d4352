// Thunderbird's account for alice on mail.kpopd.test. The test replaces PORT, SOCKET by 0 (cleartext), 2 (STLS) or 3 (pop3s), METHOD by 5 (Kerberos) or 3 (password), AT_START, and LEAVE by true or false.
user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.identity.id1.useremail", "alice@kpopd.test");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "pop3");
user_pref("mail.server.server1.hostname", "mail.kpopd.test");
user_pref("mail.server.server1.userName", "alice");
user_pref("mail.server.server1.name", "alice");
user_pref("mail.server.server1.port", PORT);
user_pref("mail.server.server1.socketType", SOCKET);
user_pref("mail.server.server1.authMethod", METHOD);
user_pref("mail.server.server1.login_at_startup", AT_START);
user_pref("mail.server.server1.download_on_biff", true);
user_pref("mail.server.server1.leave_on_server", LEAVE);
