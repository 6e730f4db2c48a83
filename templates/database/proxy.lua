-- written by infra: what a client is told at once where no server may be used, as a server of MariaDB or MySQL would say it: an ERR
-- packet in place of the greeting. 1040 is what clients take for «later».
local function refusal(message)
	local body = "\xff" .. string.pack("<I2", 1040) .. "#08004" .. message
	return string.pack("<I3", #body) .. "\0" .. body
end

local function refuse(name, message)
	core.register_service(name, "tcp", function(applet) applet:send(refusal(message)) end)
end

refuse("no_writer", "No database host may write now (asked by the proxy of infra on this host). Try again.")
refuse("two_writers", "Two database hosts say that they may write, so the proxy of infra on this host uses neither. See: infra db status")
refuse("no_reader", "No database host may be read now (asked by the proxy of infra on this host). Try again.")

-- In the first second after a start no server was asked yet: a client waits for that, and never later.
local born = core.now().sec
core.register_action("asked", { "tcp-req" }, function(txn)
	while core.now().sec - born < 2 do
		if txn.f:nbsrv("writer") > 0 or txn.f:nbsrv("reader") > 0 then return end
		core.msleep(20)
	end
end)
